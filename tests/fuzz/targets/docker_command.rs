//! Bytes as what follows `docker run`: never a panic; what is accepted is a job-spec too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmjob_agent::job::{parse_docker_command, parse_spec};

fuzz_target!(|text: &[u8]| {
    let line = [b"docker run ", text].concat();
    match parse_docker_command(&line) {
        Ok(parsed) => {
            let again = parse_spec(parsed.job.to_json().to_string().as_bytes()).expect("what was written is read");
            assert_eq!(again.job, parsed.job);
        }
        Err(error) => assert!(error.to_string().starts_with("docker-command: ")),
    }
});
