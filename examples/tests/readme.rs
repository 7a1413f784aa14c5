//! The README's example, run in an empty folder.

use std::{env, fs, process::Command};

#[test]
fn the_example_of_the_readme_prints_what_each_handler_did() {
    let folder = env::temp_dir().join(format!("evented-readme-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let test = env::current_exe().unwrap();
    let example = test.parent().unwrap().parent().unwrap().join("examples/readme");
    let output = Command::new(example).current_dir(&folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut lines: Vec<_> = said.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["a mail goes to ada@example.org", "order 17 is counted", "payment 17 is booked"]);
    fs::remove_dir_all(&folder).unwrap();
}
