//! The binary: reads the command line, sets up logging, does what was asked, says how it went.

use std::{path::Path, process::ExitCode};

use vmjob_agent::{
    check::check,
    cli::{Cli, Command, Config, HELP},
    logging,
    run::{Ended, RunError, run},
    status::status,
};

fn main() -> ExitCode {
    let cli = Cli::from_env().and_then(|cli| logging::init(cli.log_format, &cli.log_filter).map(|()| cli));
    match cli.map(|cli| cli.command) {
        Ok(Command::Run(config)) => run_job(&config),
        Ok(Command::Check(file)) => check_job(file.as_deref()),
        Ok(Command::Status(config)) => show(status(&config.state_dir), ExitCode::FAILURE),
        Ok(Command::Help) => show(Ok(HELP.trim_end().into()), ExitCode::FAILURE),
        Ok(Command::Version) => show(Ok(concat!("vmjob-agent ", env!("CARGO_PKG_VERSION")).into()), ExitCode::FAILURE),
        Err(problem) => show(Err(format!("{problem}\nTry `vmjob-agent --help`.")), ExitCode::from(2)),
    }
}

fn run_job(config: &Config) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(RunError::from).and_then(|runtime| runtime.block_on(run(config))) {
        Ok(Ended::Done) => ExitCode::SUCCESS,
        Ok(Ended::Undelivered) => ExitCode::from(75),
        Err(error @ (RunError::Metadata(_) | RunError::NoTime)) => show(Err(error.to_string()), ExitCode::from(69)),
        Err(error) => show(Err(error.to_string()), ExitCode::FAILURE),
    }
}

fn check_job(file: Option<&Path>) -> ExitCode {
    let checked = check(file).map(|(job, warnings)| {
        for warning in warnings {
            eprintln!("warning: {warning}");
        }
        job
    });
    show(checked, ExitCode::from(2))
}

/// Prints what was asked for, or why it cannot be had.
fn show(text: Result<String, String>, failure: ExitCode) -> ExitCode {
    match text {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("vmjob-agent: {problem}");
            failure
        }
    }
}
