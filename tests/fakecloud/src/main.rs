//! `fakecloud`: Google's side of vmjob on a laptop. In: a command line. Out: two servers, or one job run and reported.

mod cli;

use std::process::ExitCode;

use cli::args::{self, Command};

const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let command = match args::parse(lexopt::Parser::from_env()) {
        Ok(command) => command,
        Err(problem) => {
            eprintln!("fakecloud: {problem}\nSee `fakecloud --help`.");
            return EXIT_USAGE.into();
        }
    };
    match execute(command) {
        Ok(code) => code.into(),
        Err(error) => {
            eprintln!("fakecloud: {error}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> std::io::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        Command::Print(text) => cli::print(&text).map(|()| 0),
        Command::Serve(options) => runtime.block_on(cli::serve::serve(options)),
        Command::Run(options) => runtime.block_on(cli::run::run(options)),
    }
}
