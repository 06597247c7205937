//! How a command line begins, and what is wrong where it does not begin with `docker run`.
//!
//! In: the words of its first command. Out: how many of them come before the flags; or what they are and what to write. A value
//! among them may be a secret, so none is shown.

use super::discreet::is_surely_a_name;
use super::error::{Problem, did_you_mean, quote};

const EXAMPLE: &str = "docker run alpine echo hello";
/// What only a shell knows, or what runs a command in some way of its own.
const SHELL_WORDS: [&str; 25] = [
    "set", "cd", "source", ".", "time", "nohup", "exec", "nice", "if", "for", "while", "alias", "echo", "sh", "bash",
    "eval", "unset", "trap", "mkdir", "sleep", "watch", "script", "winpty", "gcloud", "apt-get",
];
const ENGINES: [&str; 7] = ["podman", "nerdctl", "nvidia-docker", "docker.exe", "docker-ce", "ctr", "crictl"];
const PROMPTS: [&str; 4] = ["$", "%", "❯", ">"];

/// Docker's own other commands, and what to do instead.
const COMMANDS: [(&str, &str); 14] = [
    ("pull", "leave it out: the image is pulled before the job"),
    ("login", "leave it out: Google's registries get the token of the VM"),
    ("build", "build and push the image first, and write a docker run line of it"),
    ("buildx", "build and push the image first, and write a docker run line of it"),
    ("create", "write docker run instead"),
    ("start", "write docker run instead"),
    ("exec", "write docker run instead: a job is a container of its own"),
    ("compose", "write a docker run line for the one container: no file is read"),
    ("stack", "write a docker run line for the one container: no file is read"),
    ("service", "write docker run instead"),
    ("volume", "leave it out: -v NAME:/data makes the volume"),
    ("network", "leave it out, or use --network host"),
    ("stop", "leave it out: the container is the job's own"),
    ("rm", "leave it out: the container is the job's own"),
];

/// How many words come before the flags: those of `docker run` or `docker container run`.
pub(super) fn check(words: &[impl AsRef<str>]) -> Result<usize, Problem> {
    let word = |index: usize| words.get(index).map_or("", AsRef::as_ref);
    match (word(0), word(1), word(2)) {
        ("docker", "run", _) => Ok(2),
        ("docker", "container", "run") => Ok(3),
        ("", ..) => Err(Problem::new("there is no command").fix(format!("write for example {EXAMPLE}"))),
        ("docker", "container", command) => Err(of_docker("docker container", command)),
        ("docker", command, _) => Err(of_docker("docker", command)),
        (first, ..) => Err(other(first, words)),
    }
}

fn of_docker(before: &str, command: &str) -> Problem {
    if command.starts_with('-') {
        return Problem::new("an option of docker itself stands before run")
            .fix("leave it out: the engine is the VM's own");
    }
    if let Some((name, fix)) = COMMANDS.iter().find(|(name, _)| *name == command) {
        return Problem::new(format!("docker {name} is another command than docker run")).fix(*fix);
    }
    if command.split_whitespace().nth(1).is_some() {
        return Problem::new("a quote makes one word of run and what follows it")
            .fix("leave the quote out, or close it where its word ends");
    }
    let problem = if is_plain(command) { expected(&[before, command].join(" ")) } else { begins_otherwise() };
    problem.fix(match did_you_mean(command, ["run"]) {
        Some(_) => "did you mean docker run?".to_owned(),
        None => format!("write for example {EXAMPLE}"),
    })
}

fn other(first: &str, words: &[impl AsRef<str>]) -> Problem {
    let name_of = |word: &str| word.split_once('=').map(|(name, _)| name.to_owned());
    let assigned = name_of(first).or_else(|| {
        let is_assigner = matches!(first, "env" | "export" | "declare" | "sudo");
        words.iter().skip(1).map(AsRef::as_ref).find_map(name_of).filter(|_| is_assigner)
    });
    match (first, assigned) {
        (_, Some(name)) if matches!(&*name, "docker-command" | "docker_command" | "job-spec") => {
            Problem::new(format!("the text begins with the attribute's own name, {name}=")).fix("give the value alone")
        }
        (_, Some(name)) if name.starts_with("DOCKER_") => {
            Problem::new(format!("{name}=… is for a docker command at a terminal")).fix("leave it out")
        }
        (_, Some(name)) if is_surely_a_name(&name) => Problem::new(format!(
            "{name}=… stands before docker run, where it sets a variable of a shell and none of the job"
        ))
        .fix(format!(
            "write -e {name}=… after docker run; for a secret use \"secret_env\" of a container in a job-spec"
        )),
        (_, Some(_)) => Problem::new("what stands before docker run sets a variable of a shell and none of the job")
            .fix("write -e NAME=… after docker run; for a secret use \"secret_env\" of a container in a job-spec"),
        ("sudo" | "doas", _) => {
            Problem::new(format!("{first} does nothing here: the agent is root")).fix("begin with docker run")
        }
        ("timeout", _) => Problem::new("timeout does nothing here: the line is not given to a shell")
            .fix("begin with docker run, and set \"timeout\" in a job-spec"),
        _ if first.eq_ignore_ascii_case("docker") => {
            Problem::new("docker is written in lower case").fix(format!("write for example {EXAMPLE}"))
        }
        ("run", _) => Problem::new("docker is missing before run").fix(format!("write for example {EXAMPLE}")),
        ("docker-compose", _) => Problem::new("no compose file is read").fix("write a docker run line"),
        _ if PROMPTS.contains(&first) => {
            Problem::new(format!("the {first} in front is a terminal's prompt")).fix("begin with docker run")
        }
        _ if ENGINES.contains(&first) || first.ends_with("/docker") => {
            Problem::new(format!("{} is not docker", quote(first)))
                .fix("write docker run instead: the options are the same")
        }
        _ if SHELL_WORDS.contains(&first) => {
            Problem::new(format!("{first} is a command of a shell, and no shell reads this"))
                .fix("leave it out: begin with docker run")
        }
        _ if first.starts_with("docker ") => Problem::new("the whole line is in quotes").fix("write it without them"),
        _ if first.ends_with(':') => {
            Problem::new(format!("{} is a key of YAML", quote(first))).fix("give the docker run line alone")
        }
        _ => {
            let shown = words.iter().take(3).map(AsRef::as_ref).take_while(|word| is_plain(word));
            let shown = shown.collect::<Vec<_>>().join(" ");
            let is_close = did_you_mean(first, ["docker"]).is_some();
            let problem = if shown.is_empty() { begins_otherwise() } else { expected(&shown) };
            problem.fix(if is_close {
                "did you mean docker run?".to_owned()
            } else {
                format!("write for example {EXAMPLE}")
            })
        }
    }
}

fn begins_otherwise() -> Problem {
    Problem::new("expected a line that begins with docker run")
}

fn expected(found: &str) -> Problem {
    Problem::new(format!("expected a line that begins with docker run, found {}", quote(found)))
}

/// Whether a word is a command's name, or the like, and no secret.
fn is_plain(word: &str) -> bool {
    word.len() <= 20 && word.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'-' | b'.' | b'/' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_line_that_a_quote_joins_nothing_is_shown() {
        let error = check(&["docker", "run -e PW=hunter2 a"]).unwrap_err().at("a", "").to_string();
        assert!(error.contains("a quote makes one word") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn what_stands_before_docker_run_is_named_and_no_value_shown() {
        let cases = [
            ("HF_TOKEN=hf_SECRET docker run", "HF_TOKEN=… stands before docker run", "write -e HF_TOKEN=…"),
            ("export A=hunter2 B=hunter2", "A=… stands before", "write -e A=…"),
            ("env -i A=hunter2 docker run", "A=… stands before", "write -e A=…"),
            ("sudo A=hunter2 docker run", "A=… stands before", "write -e A=…"),
            ("hunter2Hunter=x docker run", "sets a variable of a shell", "-e NAME=…"),
            ("docker-command=docker run", "the attribute's own name", "give the value alone"),
            ("DOCKER_HOST=x docker run", "DOCKER_HOST=…", "leave it out"),
            ("sudo docker run", "sudo does nothing here", "begin with docker run"),
            ("set -e", "set is a command of a shell", "leave it out"),
            ("timeout 1h docker run", "timeout does nothing here", "\"timeout\" in a job-spec"),
            ("podman run", "\"podman\" is not docker", "write docker run"),
            ("/usr/bin/docker run", "\"/usr/bin/docker\" is not docker", "write docker run"),
            ("docker compose up", "docker compose is another command", "no file is read"),
            ("docker login -u x -phunter2", "docker login is another command", "leave it out"),
            ("docker container ls", "found \"docker container ls\"", "for example docker run"),
            ("docker hunter2Hunter", "a line that begins with docker run", "for example docker run"),
            ("docker -H tcp://hunter2@h run", "an option of docker itself", "leave it out"),
            ("docker rnu a", "found \"docker rnu\"", "did you mean docker run?"),
            ("dokcer run a", "found \"dokcer run a\"", "did you mean docker run?"),
            ("Docker run a", "docker is written in lower case", "docker run"),
            ("run -it a", "docker is missing", "docker run"),
            ("$ docker run", "a terminal's prompt", "begin with docker run"),
            ("docker-command: docker run", "a key of YAML", "alone"),
            ("python train.py hunter2", "found \"python train.py\"", "docker run"),
            ("", "there is no command", "docker run"),
        ];
        for (line, problem, fix) in cases {
            let words: Vec<&str> = line.split_whitespace().collect();
            let error = check(&words).unwrap_err().at("a", "");
            assert!(error.problem.contains(problem), "{line}: {error}");
            assert!(error.fix.as_ref().is_some_and(|found| found.contains(fix)), "{line}: {error}");
            assert!(!error.to_string().contains("hunter2") && !error.to_string().contains("SECRET"), "{error}");
        }
    }
}
