//! The arguments of the measuring programs: words, and options that begin with `--`.

use std::{collections::BTreeMap, env, str::FromStr, time::Duration};

use anyhow::{Context as _, bail, ensure};

use crate::ground::Engine;

/// What a program was asked for.
pub struct Args {
    words: Vec<String>,
    options: BTreeMap<String, String>,
}

impl Args {
    /// Reads the arguments of this process. `flags` are the options without a value, `options` those with one.
    pub fn read(flags: &[&str], options: &[&str]) -> anyhow::Result<Self> {
        let mut read = Self { words: Vec::new(), options: BTreeMap::new() };
        let mut args = env::args().skip(1);
        while let Some(arg) = args.next() {
            let Some(name) = arg.strip_prefix("--") else {
                read.words.push(arg);
                continue;
            };
            let value = if flags.contains(&name) {
                String::new()
            } else if options.contains(&name) {
                args.next().with_context(|| format!("`--{name}` is followed by a value"))?
            } else {
                let known: Vec<_> = flags.iter().chain(options).map(|name| format!("`--{name}`")).collect();
                bail!("`--{name}` is no option here; there are {}", known.join(", "));
            };
            read.options.insert(name.to_owned(), value);
        }
        Ok(read)
    }

    /// The words, in their order.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// Whether an option was given.
    pub fn has(&self, name: &str) -> bool {
        self.options.contains_key(name)
    }

    /// The value of an option, or `usual` where it was not given.
    pub fn get<T: FromStr<Err: Into<anyhow::Error>>>(&self, name: &str, usual: T) -> anyhow::Result<T> {
        let Some(value) = self.options.get(name) else { return Ok(usual) };
        value.parse().map_err(Into::into).with_context(|| format!("`--{name} {value}`"))
    }

    /// The value of an option in seconds, which may have a fraction.
    pub fn seconds(&self, name: &str, usual: f64) -> anyhow::Result<Duration> {
        let seconds = self.get(name, usual)?;
        Duration::try_from_secs_f64(seconds).with_context(|| format!("`--{name} {seconds}`"))
    }

    /// The engines in `--store sqlite,postgres,redis`, or all of them.
    pub fn engines(&self) -> anyhow::Result<Vec<Engine>> {
        let Some(names) = self.options.get("store") else { return Ok(Engine::ALL.to_vec()) };
        let engines: Vec<Engine> = names.split(',').map(str::parse).collect::<Result<_, _>>()?;
        ensure!(!engines.is_empty(), "`--store` names a store");
        Ok(engines)
    }
}
