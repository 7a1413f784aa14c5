//! What the command line may say.

use std::{ffi::OsString, path::PathBuf};

pub const HELP: &str = "\
usage: shop [serve [--port N] | work] [--data DIR] [--queue URL]

  (no mode)    place the orders of orders.jsonl, wait until all is delivered, print a table, check it
  serve        take POST /orders on 127.0.0.1 and deliver, until Ctrl-C;
               with EVENTED_ROLE=emit the deliveries are left to `work`
  work         only deliver, until Ctrl-C

  --port N     where `serve` listens (default 3000, 0 for any free port)
  --data DIR   where the databases, mails and invoices are kept (default shop-data)
  --queue URL  the queue of the background deliveries, such as redis://127.0.0.1:6379 or postgres://127.0.0.1/shop; give
               each DIR one of its own (default sqlite:DIR/evented.db)
  --help       this text

Logs go to stderr; RUST_LOG says how much of them.";

pub struct Options {
    pub mode: Mode,
    pub data: PathBuf,
    /// The URL of a queue elsewhere.
    pub queue: Option<String>,
}

pub enum Mode {
    Demo,
    Serve { port: u16 },
    Work,
    Help,
}

impl Options {
    /// Reads the arguments, without the program's name.
    pub fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let mut mode = Mode::Demo;
        let mut port = None;
        let mut data = PathBuf::from("shop-data");
        let mut queue = None;
        while let Some(arg) = args.next() {
            match (arg.to_str(), &mode) {
                (Some("--help" | "-h"), _) => return Ok(Self { mode: Mode::Help, data, queue }),
                (Some("--data"), _) => data = args.next().ok_or("`--data` needs a directory")?.into(),
                (Some("--queue"), _) => queue = Some(parse_queue(args.next())?),
                (Some("--port"), _) => port = Some(parse_port(args.next())?),
                (Some("serve"), Mode::Demo) => mode = Mode::Serve { port: 3000 },
                (Some("work"), Mode::Demo) => mode = Mode::Work,
                (Some("serve" | "work"), _) => return Err("one mode at a time: `serve` or `work`".into()),
                _ => return Err(format!("unknown argument `{}`", arg.display())),
            }
        }
        match (port, &mut mode) {
            (Some(chosen), Mode::Serve { port }) => *port = chosen,
            (Some(_), _) => return Err("`--port` belongs to `serve`".into()),
            (None, _) => {}
        }
        Ok(Self { mode, data, queue })
    }
}

fn parse_queue(arg: Option<OsString>) -> Result<String, String> {
    let arg = arg.ok_or("`--queue` needs a URL")?;
    arg.into_string().map_err(|arg| format!("`{}` is not a URL", arg.display()))
}

fn parse_port(arg: Option<OsString>) -> Result<u16, String> {
    let arg = arg.ok_or("`--port` needs a number")?;
    let port = arg.to_str().and_then(|text| text.parse().ok());
    port.ok_or_else(|| format!("`{}` is not a port; expected a number from 0 to 65535", arg.display()))
}
