//! Threads, and asynchronous work on one. Whatever they do, for the compiler it is of one type: the binary has what starts and runs
//! them once.

use std::{
    io,
    pin::{Pin, pin},
    thread::{self, JoinHandle},
};

use tokio::runtime::Builder;

/// Starts a thread.
///
/// # Panics
/// If the kernel gives no more.
pub fn spawn(work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let work: Box<dyn FnOnce() + Send> = Box::new(work);
    thread::spawn(work)
}

/// As [`spawn`], where another thread may be one too many.
///
/// # Errors
/// The kernel gives no more.
pub fn try_spawn(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let work: Box<dyn FnOnce() + Send> = Box::new(work);
    thread::Builder::new().spawn(work).map(drop)
}

/// Runs `work` to its end on this thread. An error if the kernel does not give what that takes.
pub fn block_on<T>(work: impl Future<Output = T>) -> io::Result<T> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut result = None;
    {
        let work: Pin<&mut dyn Future<Output = ()>> = pin!(async { result = Some(work.await) });
        runtime.block_on(work);
    }
    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
    result.ok_or_else(|| io::Error::other("the work did not end"))
}
