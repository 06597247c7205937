//! The binary: reads the command line, lives the lives, says what broke.

use std::{fs, io, process::ExitCode};

use chaos::{
    cli::{self, Command, HELP, Options},
    runner,
};

fn main() -> ExitCode {
    let options = match cli::parse(lexopt::Parser::from_env()) {
        Ok(Command::Help) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Ok(Command::Run(options)) => options,
        Err(problem) => {
            eprintln!("chaos: {problem}\nTry `chaos --help`.");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether all invariants held.
fn run(options: &Options) -> io::Result<bool> {
    println!("chaos: seed {}", options.seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let summary = runtime.block_on(async {
        tokio::select! {
            summary = runner::run(options) => summary,
            // Dropping the lives ends their processes.
            _ = tokio::signal::ctrl_c() => Err(io::Error::other("interrupted")),
        }
    })?;
    println!("{summary}");
    if let Some(file) = &options.json {
        fs::write(file, format!("{:#}\n", summary.to_json()))?;
    }
    Ok(summary.broken().next().is_none())
}
