//! The README's example, run in an empty folder; and what the environment says to it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn empty_folder(name: &str) -> PathBuf {
    let folder = env::temp_dir().join(format!("evented-readme-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn run(folder: &Path, variables: &[(&str, &str)]) -> Output {
    let test = env::current_exe().unwrap();
    let example = test.parent().unwrap().parent().unwrap().join("examples/readme");
    Command::new(example).current_dir(folder).envs(variables.iter().copied()).output().unwrap()
}

#[test]
fn the_example_of_the_readme_prints_what_each_handler_did() {
    let folder = empty_folder("plain");
    let output = run(&folder, &[]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut lines: Vec<_> = said.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["a mail goes to ada@example.org", "order 17 is counted", "payment 17 is booked"]);
    assert!(folder.join("evented.db").is_file(), "the queue is in the working directory");
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn the_environment_names_the_queue_where_the_code_does_not() {
    let folder = empty_folder("environment");
    let output = run(&folder, &[("EVENTED_QUEUE", "sqlite:elsewhere.db")]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(folder.join("elsewhere.db").is_file() && !folder.join("evented.db").exists());
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn mistakes_in_the_environment_are_reported_together_with_what_to_write() {
    let folder = empty_folder("mistakes");
    let output = run(&folder, &[("EVENTED_ROLE", "worker"), ("EVENTED_QUEUE", "nats://127.0.0.1")]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("evented could not start: 2 problems"), "{said}");
    assert!(said.contains("`EVENTED_ROLE=worker` is no role; write `all`, `emit` or `work`"), "{said}");
    assert!(said.contains("`nats://127.0.0.1`") && said.contains("sqlite:queue.db"), "{said}");
    fs::remove_dir_all(&folder).unwrap();
}
