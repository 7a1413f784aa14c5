//! Reads the source files and holds the lines that the compiler does not.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace").to_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every Rust file below a folder of the workspace, by its path there, with its text.
fn rust_files(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("the folder can be read").path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).expect("it lies below").display().to_string();
                found.push((name, read(&path)));
            }
        }
    }
    assert!(!found.is_empty(), "no Rust file below {folder}");
    found.sort();
    found
}

/// The code of a file: without its comments, and without the tests at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap_or(text);
    let code = |line: &str| line.split("//").next().unwrap_or(line).to_owned();
    text.lines().map(code).collect::<Vec<_>>().join("\n")
}

/// Where `text` has `word` as a word of its own.
fn names(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + word.len()..]);
        !before.chars().next_back().is_some_and(part) && !after.chars().next().is_some_and(part)
    })
}

/// Files of the library that name one of `words` in their code, those excepted that may.
fn offenders(words: &[&str], may: impl Fn(&str) -> bool) -> Vec<String> {
    let files = rust_files("evented/src").into_iter().filter(|(name, _)| !may(name));
    let named = files.flat_map(|(name, text)| {
        let code = code(&text);
        let found = words.iter().filter(move |word| names(&code, word)).map(move |word| format!("{name}: {word}"));
        found.collect::<Vec<_>>()
    });
    named.collect()
}

#[test]
fn modules_name_only_rooms_above_their_own() {
    let lib = read(&root().join("evented/src/lib.rs"));
    let module = |line: &str| {
        line.strip_prefix("pub ").unwrap_or(line).strip_prefix("mod ")?.strip_suffix(';').map(str::to_owned)
    };
    let order: Vec<String> = lib.lines().filter_map(module).collect();
    assert!(order.len() > 10, "lib.rs lists its modules: {order:?}");
    let mut wrong = Vec::new();
    for (name, text) in rust_files("evented/src") {
        let room = name.trim_start_matches("evented/src/").split(['/', '.']).next().unwrap_or_default().to_owned();
        let Some(at) = order.iter().position(|module| *module == room) else { continue };
        let code = code(&text);
        for below in &order[at + 1..] {
            // `crate::below` on its own, or `below::` in a `use crate::{ .. }` list.
            let in_list = code.lines().any(|line| line.trim_start().starts_with(&format!("{below}::")));
            if names(&code, &format!("crate::{below}")) && !code.contains(&format!("crate::{below}(")) || in_list {
                wrong.push(format!("{name} names `{below}`, which stands below it in lib.rs"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_driver_is_named_outside_the_stores() {
    // lib.rs re-exports the crate, for users to name one version of it.
    let may = |name: &str| name.starts_with("evented/src/store") || name == "evented/src/lib.rs";
    assert_eq!(
        offenders(&["sqlx", "SqlitePool", "Sqlite", "sea_orm", "RedisError", "MultiplexedConnection"], may),
        [""; 0]
    );
}

#[test]
fn clocks_are_read_in_one_room_and_random_numbers_asked_for_in_another() {
    let clocks = ["SystemTime::now", "Instant::now", "tokio::time", "thread::sleep"];
    assert_eq!(offenders(&clocks, |name| name == "evented/src/time.rs"), [""; 0]);
    assert_eq!(offenders(&["uuid", "Uuid"], |name| name == "evented/src/id.rs"), [""; 0]);
}

/// What a caller or a handler says may be the longest duration there is: sums are made where they are bounded.
#[test]
fn times_are_added_in_the_room_of_clocks_alone() {
    let sums = ["now() +", "now + ", "now() -", "unix_ms() +", "unix_ms() -", "UNIX_EPOCH +"];
    let elsewhere = |name: &str| name != "evented/src/time.rs" && !name.starts_with("evented/src/testing");
    let files = rust_files("evented/src").into_iter().filter(|(name, _)| elsewhere(name));
    let wrong = files.flat_map(|(name, text)| {
        // A statement's text is the database's to reckon.
        let outside: String = code(&text).split('"').step_by(2).collect();
        sums.iter()
            .filter(move |sum| outside.contains(*sum))
            .map(move |sum| format!("{name}: {sum}"))
            .collect::<Vec<_>>()
    });
    assert_eq!(wrong.collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn registrations_are_collected_in_the_registry_alone() {
    // lib.rs re-exports inventory to what the attributes write.
    let may = |name: &str| name == "evented/src/registry.rs" || name == "evented/src/lib.rs";
    assert_eq!(offenders(&["inventory"], may), [""; 0]);
}

#[test]
fn nothing_is_left_to_do_and_nothing_is_unwrapped() {
    let mut wrong = offenders(&["todo", "unimplemented", "dbg", "unwrap"], |_| false);
    for folder in ["evented-macros/src", "examples/shop", "examples/readme", "examples/foreign"] {
        for (name, text) in rust_files(folder) {
            let left =
                ["todo!", "unimplemented!", "dbg!", ".unwrap()"].into_iter().filter(|word| code(&text).contains(word));
            wrong.extend(left.map(|word| format!("{name}: {word}")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_test_is_switched_off() {
    let ignore = concat!("#[", "ignore");
    for folder in ["evented", "evented-macros", "examples", "tests"] {
        for (name, text) in rust_files(folder) {
            assert!(!text.contains(ignore), "{name}");
        }
    }
}

#[test]
fn each_file_begins_with_its_idea_and_stays_one_room() {
    let libraries = ["evented/src", "evented-macros/src", "examples/shop", "examples/foreign", "tests/src"];
    let tests = ["tests/it", "tests/crash", "tests/releases", "tests/servers"];
    let programs = ["tests/bench", "tests/growth", "tests/idle", "tests/outage", "tests/outbox", "tests/poison"];
    let further = ["tests/relayer", "tests/survive"];
    for folder in libraries.into_iter().chain(tests).chain(programs).chain(further) {
        for (name, text) in rust_files(folder) {
            assert!(text.starts_with("//! "), "{name} does not begin with a line that says its idea");
            assert!(text.lines().count() <= 600, "{name} is longer than a room");
        }
    }
}

#[test]
fn the_readme_shows_an_example_that_is_compiled_and_run() {
    let readme = read(&root().join("README.md"));
    let (_, shown) = readme.split_once("```rust\n").expect("the README has an example");
    let (shown, _) = shown.split_once("```").expect("the example ends");
    let compiled = read(&root().join("examples/readme/main.rs"));
    assert!(compiled.ends_with(shown), "README.md and examples/readme/main.rs differ");
    for command in ["cargo run --example shop", "cargo test --workspace"] {
        assert!(readme.contains(command), "{command}");
    }
}
