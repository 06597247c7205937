//! Bytes as a `job-spec`: never a panic; what is accepted is, written out and read again, the same job.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmjob_agent::job::parse_spec;

fuzz_target!(|text: &[u8]| {
    match parse_spec(text) {
        Ok(parsed) => {
            let again = parse_spec(parsed.job.to_json().to_string().as_bytes()).expect("what was written is read");
            assert_eq!(again, parsed);
        }
        Err(error) => assert!(error.to_string().starts_with("job-spec: ")),
    }
});
