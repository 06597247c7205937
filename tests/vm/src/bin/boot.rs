//! Boots a machine for programs that are not tests of this crate: the Compute Engine of the workflows' tests. Needs root.
//!
//! ```text
//! boot --callback ADDRESS [--set PATH=VALUE] [--attribute-file KEY=FILE] [--object NAME=FILE] …
//! ```
//! ADDRESS (a loopback one) leads from the machine to the same address outside. Objects are those of `gs://agents/`.
//! Prints `metadata ADDRESS`, where the machine's metadata server can be reached from outside, and `console FILE`; then it
//! obeys lines on stdin: `PATH=VALUE` changes the metadata; `shutdown` presses the power button; `cut` takes the power away.
//! Both say `off` when it is off. The end of stdin ends the machine.

use std::error::Error;
use std::fs;
use std::net::SocketAddr;

use lexopt::Parser;
use lexopt::prelude::*;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::unix::pipe::Receiver;
use vm::{Machine, Outside, Setup};

#[derive(Default)]
struct Options {
    setup: Setup,
    callback: Option<SocketAddr>,
    values: Vec<(String, String)>,
    objects: Vec<(String, Vec<u8>)>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = parse(Parser::from_env())?;
    let outside = Outside::stay()?;
    let (metadata, callback) = (outside.address()?, options.callback.ok_or("`--callback` is missing")?);
    let mut machine = Machine::new(options.setup).await.ok_or("no machine can be booted here")?;
    for (path, value) in options.values {
        machine.cloud.set(&path, value);
    }
    for (name, content) in options.objects {
        machine.bucket.put(&name, content);
    }
    let relay = tokio::spawn(outside.relay(machine.cloud.metadata_addr(), callback));
    machine.boot();
    println!("metadata {metadata}\nconsole {}", machine.console_file().display());

    let mut lines = BufReader::new(Receiver::from_file(fs::File::open("/dev/stdin")?)?).lines();
    while let Some(line) = lines.next_line().await? {
        match (line.as_str(), line.split_once('=')) {
            ("shutdown", _) => {
                machine.inside(&["systemctl", "poweroff"]).await;
                machine.off().await;
                println!("off");
            }
            ("cut", _) => {
                machine.cut().await;
                println!("off");
            }
            (_, Some((path, value))) => machine.cloud.set(path, value),
            _ => eprintln!("boot: `{line}` is no command"),
        }
    }
    relay.abort();
    Ok(())
}

fn parse(mut parser: Parser) -> Result<Options, Box<dyn Error>> {
    let mut options = Options::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("callback") => options.callback = Some(parser.value()?.parse()?),
            Long("set") => options.values.push(pair(&mut parser)?),
            Long("attribute-file") => {
                let (key, file) = pair(&mut parser)?;
                options.setup = options.setup.attribute(&key, fs::read(file)?);
            }
            Long("object") => {
                let (name, file) = pair(&mut parser)?;
                options.objects.push((name, fs::read(file)?));
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(options)
}

/// `NAME=VALUE`.
fn pair(parser: &mut Parser) -> Result<(String, String), Box<dyn Error>> {
    let word = parser.value()?.string()?;
    let (name, value) = word.split_once('=').ok_or_else(|| format!("`{word}` has no `=`"))?;
    Ok((name.to_owned(), value.to_owned()))
}
