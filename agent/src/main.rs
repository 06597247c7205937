//! The binary: reads the command line, sets up logging, does what was asked, says how it went.

use std::{io::Write, process::ExitCode};

use tracing::warn;
use vmjob_agent::{
    check::check,
    checks::doctor,
    cli::{Cli, Command, Config, HELP},
    files,
    gate::{Gate, printable},
    install::{Install, install},
    logging,
    run::{Ended, RunError, run},
    runtime::MainProcess,
    shim,
    status::status,
    threads::block_on,
};

fn main() -> ExitCode {
    let gate = Gate::default();
    let command = Cli::from_env().map(|cli| {
        logging::init(cli.log_format, cli.log_filter, gate.clone());
        for problem in cli.ignored {
            warn!("{problem}");
        }
        cli.command
    });
    match command {
        Ok(Command::Run(config)) => run_job(&config, &gate),
        Ok(Command::StartupScript(config)) => match install(&Install::NOW) {
            Ok(done) => show(Ok(done), 1),
            // Whoever waits for the job can still be told.
            Err(error) => run_job(&Config { cannot_run: Some(error.to_string()), ..config }, &gate),
        },
        Ok(Command::Install(wanted)) => show(install(&wanted).map_err(|error| error.to_string()), 1),
        Ok(Command::Shim(dir)) => show(shim::run(&dir).map(|()| String::new()).map_err(|error| error.to_string()), 1),
        // It does not come back from this but with an error.
        Ok(Command::ShimExec(dir)) => show(Err(shim::exec(&dir).to_string()), 127),
        Ok(Command::Files(rights)) => {
            show(files::serve(&rights).map(|()| String::new()).map_err(|error| error.to_string()), 1)
        }
        Ok(Command::Signal(order)) => {
            show(MainProcess::obey(&order).map(|()| String::new()).map_err(|error| error.to_string()), 1)
        }
        Ok(Command::Doctor(config)) => {
            let (table, status) = doctor(&config);
            let _ = show(Ok(table), 1);
            ExitCode::from(status)
        }
        Ok(Command::Check(file, block_mounts)) => show(check(file.as_deref(), &block_mounts), 2),
        Ok(Command::Status(config)) => show(status(&config.state_dir), 1),
        Ok(Command::Help) => show(Ok(HELP.trim_end().into()), 1),
        Ok(Command::Version) => show(Ok(concat!("vmjob-agent ", env!("CARGO_PKG_VERSION")).into()), 1),
        Err(problem) => show(Err(format!("{problem}\nTry `vmjob-agent --help`.")), 2),
    }
}

fn run_job(config: &Config, gate: &Gate) -> ExitCode {
    match block_on(run(config, gate)).map_err(RunError::from).flatten() {
        Ok(Ended::Done) => ExitCode::SUCCESS,
        Ok(Ended::Undelivered) => ExitCode::from(75),
        Err(error @ (RunError::Metadata(_) | RunError::NoTime)) => show(Err(gate.text(&error.to_string())), 69),
        // The unit starts the agent again after any other status.
        Err(error @ RunError::Hopeless { .. }) => show(Err(error.to_string()), 75),
        Err(error) => show(Err(gate.text(&error.to_string())), 1),
    }
}

/// Prints what was asked for, or why it cannot be had, which `failure` then tells.
fn show(text: Result<String, String>, failure: u8) -> ExitCode {
    match text {
        Ok(text) => {
            // Whoever reads may have seen enough.
            let _ = writeln!(std::io::stdout(), "{}", printable(&text, "\n"));
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("vmjob-agent: {}", printable(&problem, "\n"));
            ExitCode::from(failure)
        }
    }
}
