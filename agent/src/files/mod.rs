//! The files that a job names: opened as the job sees them, with no more rights than the job has: a helper process that has become
//! its user makes the calls. By threads of their own, as a file system may not answer. Nothing else in the agent opens them.

mod calls;
mod helper;
mod rights;
mod view;
mod walk;
mod workers;

use std::{fs::File, io, path::Path, sync::Arc};

pub use self::{
    helper::serve,
    rights::{Rights, become_user},
    view::{Entry, Mount, NewFile, Root, View, Writable, open_root},
    walk::{Found, Walk},
    workers::{Pieces, ThreadCount, Workers},
};

/// The files of a job. Cheap to clone.
#[derive(Clone)]
pub struct JobFiles {
    view: Arc<View>,
    pub workers: Workers,
}

impl JobFiles {
    pub fn new(view: View, workers: Workers) -> Self {
        Self { view: Arc::new(view), workers }
    }

    /// Whether what the agent makes here belongs to the job's user, and not to the agent.
    pub fn are_the_user_s(&self) -> bool {
        self.workers.rights() != &Rights::Agent
    }

    /// What lies at `path`, links followed.
    pub async fn look(&self, path: &Path) -> io::Result<Entry> {
        self.on(path, View::look).await
    }

    /// Opens a file that is to become `path`: see [`NewFile`].
    pub async fn create(&self, path: &Path, part: String) -> io::Result<Arc<NewFile>> {
        self.on(path, move |view, path| view.create(path, part)).await.map(Arc::new)
    }

    /// Makes the directory `path`, and those above it.
    pub async fn make_dirs(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.on(path, move |view, path| view.make_dirs(path, mode)).await
    }

    /// Begins to list what is below the directory at `path`.
    pub async fn walk(&self, path: &Path) -> io::Result<Walk> {
        self.on(path, Walk::begin).await
    }

    /// The next file of `walk`, and the walk to go on with.
    pub async fn next(&self, mut walk: Walk) -> io::Result<(Walk, Option<Found>)> {
        let path = walk.path();
        self.on(&path, move |view, _| {
            let found = walk.next(view);
            Ok((walk, found))
        })
        .await
    }

    /// Reads the first bytes of a file, `most` at most.
    pub async fn read_start(&self, file: Arc<File>, path: &Path, most: u64) -> io::Result<Vec<u8>> {
        self.workers
            .run(path, move || {
                let mut text = Vec::new();
                io::Read::read_to_end(&mut io::Read::take(&*file, most), &mut text)?;
                Ok(text)
            })
            .await
    }

    async fn on<T: Send + 'static>(
        &self,
        path: &Path,
        work: impl FnOnce(&View, &Path) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (view, owned) = (Arc::clone(&self.view), path.to_owned());
        self.workers.run(&Path::new("/").join(path), move || work(&view, &owned)).await
    }
}
