//! What the linker collects from other crates, and what says so: `link!`, the log of `run()`, the pinned catalogue.
//!
//! A binary of its own, since its handlers are another crate's alone.

use std::{
    fs,
    io::Write,
    panic::catch_unwind,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};

// The first has an event and a handler, the second has neither.
evented::link!(evented_tests, serde);

/// What was logged, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_start_says_which_crates_contributed_what() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let logging = tracing::subscriber::set_default(subscriber);
    let app = evented::run().install(false).await.unwrap();
    drop(logging);
    app.stop().await;
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let has = |what: &[&str]| log.lines().any(|line| what.iter().all(|what| line.contains(what)));
    assert!(has(&["INFO", "crate name=\"evented_tests\" events=1 handlers=1"]), "{log}");
    assert!(has(&["INFO", "event event=\"Twin\"", "handlers=1", "tests/src/twin.rs:"]), "{log}");
    assert!(has(&["WARN", "names has neither an event nor a handler name=\"serde\"", "tests/linked.rs:"]), "{log}");
    assert!(!has(&["WARN", "evented_tests"]), "{log}");
}

#[test]
fn the_linked_handlers_are_those_of_the_list() {
    evented::assert_catalog!("linked.txt");
}

#[test]
fn a_list_that_differs_is_shown_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("handlers.txt"), "Twin/ring: Twin, background, crate evented_tests\n").unwrap();
    let path = folder.path().join("handlers.txt").display().to_string();
    let differs = catch_unwind(|| evented::assert_catalog!(&path)).unwrap_err();
    let text = differs.downcast_ref::<String>().unwrap();
    assert!(text.contains("\n  - Twin/ring: Twin, background, crate evented_tests\n"), "{text}");
    assert!(text.contains("\n  + Twin/ring: Twin, in_process, crate evented_tests\n"), "{text}");
    assert!(text.contains("`evented::link!(the_crate)`") && text.contains("EVENTED_BLESS=1"), "{text}");

    let absent = catch_unwind(|| evented::assert_catalog!("no/such/list.txt")).unwrap_err();
    let text = absent.downcast_ref::<String>().unwrap();
    assert!(text.contains("no/such/list.txt") && text.contains("EVENTED_BLESS=1"), "{text}");
}

/// Each copy would have a registry of its own, and miss the handlers of the other.
#[test]
fn a_second_copy_of_the_framework_is_refused() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    for package in ["evented", "evented-macros"] {
        fs::create_dir_all(copy.join(package).join("src")).unwrap();
        fs::copy(workspace.join(package).join("Cargo.toml"), copy.join(package).join("Cargo.toml")).unwrap();
        fs::write(copy.join(package).join("src/lib.rs"), "").unwrap();
    }
    fs::write(copy.join("evented/build.rs"), "fn main() {}").unwrap();
    let manifest = fs::read_to_string(workspace.join("Cargo.toml")).unwrap();
    let members = r#"members = ["evented", "evented-macros", "examples", "tests"]"#;
    assert!(manifest.contains(members));
    fs::write(copy.join("Cargo.toml"), manifest.replace(members, r#"members = ["evented", "evented-macros"]"#))
        .unwrap();

    let app = folder.path().join("app");
    fs::create_dir_all(app.join("src")).unwrap();
    fs::write(app.join("src/main.rs"), "fn main() {}").unwrap();
    fs::copy(workspace.join("Cargo.lock"), app.join("Cargo.lock")).unwrap();
    let evented = workspace.join("evented");
    let (evented, second) = (evented.display(), copy.join("evented"));
    let resolve = |other: &str| {
        let manifest = format!(
            "[package]\nname = \"app\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
             [dependencies]\nevented = {{ path = \"{evented}\" }}\n{other}"
        );
        fs::write(app.join("Cargo.toml"), manifest).unwrap();
        let cargo = Command::new(env!("CARGO")).args(["tree", "--offline"]).current_dir(&app).output();
        let output = cargo.unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (resolves, text) = resolve("");
    assert!(resolves, "{text}");
    let (resolves, text) = resolve(&format!("other = {{ package = \"evented\", path = \"{}\" }}\n", second.display()));
    assert!(!resolves && text.contains("links to the native library `evented`"), "{text}");
}
