//! The binary: reads the command line, lives the lives, says what broke.

use std::{env, fs, io, os::unix::fs::MetadataExt, process::ExitCode};

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
    if let Some(reason) = why_not() {
        println!("SKIPPED: {} lives, as {reason}", options.lives);
        return if is_strict() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    if options.agent.clocked.is_none() {
        println!("SKIPPED: lives of kind clock, as VMJOB_AGENT_DYNAMIC and LIBFAKETIME do not name what they need");
        if is_strict() {
            return ExitCode::FAILURE;
        }
    }
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether what is skipped is an error.
fn is_strict() -> bool {
    ["CI", "VMJOB_TESTS_STRICT"].iter().any(|name| env::var(name).is_ok_and(|value| !value.is_empty()))
}

/// Why nothing can be lived here.
fn why_not() -> Option<&'static str> {
    if env::var("VMJOB_DOCKER").is_ok_and(|engine| engine == "none") {
        return Some("there is no Docker engine");
    }
    let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    (!is_root).then_some("mounts and other boot ids need root")
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
