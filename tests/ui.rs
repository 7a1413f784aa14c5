//! What the attributes accept, and what they say to those who misuse them. To bless new texts, run with
//! `TRYBUILD=overwrite`, and read them as a user would; then write the page of the documentation that shows them, with
//! `EVENTED_BLESS=1`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

#[test]
fn the_attributes_accept_every_form_in_every_scope() {
    trybuild::TestCases::new().pass("ui/pass/*.rs");
}

#[test]
fn a_mistake_in_an_attribute_has_one_message_on_its_token() {
    trybuild::TestCases::new().compile_fail("ui/syntax/fail/*.rs");
}

/// These texts are rustc's around ours, and differ a little from release to release.
#[test]
fn a_mistake_in_a_type_has_one_message_on_its_token() {
    let version = Command::new("rustc").arg("-V").output().expect("cargo runs tests where rustc is");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    if version.starts_with("rustc 1.95.") {
        trybuild::TestCases::new().compile_fail("ui/types/fail/*.rs");
    } else {
        println!("skipped: the texts are of rustc 1.95, this is {version}");
    }
}

/// The subjects of the cases, which are the first words of their files' names, in the order of the page.
const SUBJECTS: &[(&str, &str)] = &[
    ("event", "`#[event]`: the type"),
    ("id", "Ids and aliases"),
    ("handler", "`#[handler]`: the function"),
    ("argument", "A handler's arguments"),
    ("return", "What a handler returns"),
    ("route", "Routes"),
    ("option", "Options"),
    ("value", "Durations, numbers and names"),
    ("emit", "`emit` and `emit_in`"),
    ("link", "`link!`"),
    ("register", "`register!`"),
];

/// The cases that show more than one error, and why.
const SEVERAL_ERRORS: &[(&str, &str)] = &[
    ("handler_has_many_mistakes_at_once", "it shows that all are reported in one run"),
    ("argument_tx_executes_a_query", "rustc says it of the argument, the call and the `.await`"),
    ("emit_in_has_its_arguments_swapped", "to rustc, each of the two arguments is one"),
    ("event_holds_an_rc", "to rustc, neither `Send` nor `Sync` are two mistakes"),
];

/// A misuse: why it is one, the cure, the code, and what the compiler says.
struct Case {
    name: String,
    docs: String,
    code: String,
    text: String,
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("ui");
    let mut paths: Vec<PathBuf> = Vec::new();
    for kind in ["syntax/fail", "types/fail"] {
        let files = fs::read_dir(folder.join(kind)).expect("the cases lie there");
        paths.extend(files.map(|file| file.expect("the folder can be read").path()));
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let case = |path: PathBuf| {
        let source = read(&path);
        let (docs, code): (Vec<_>, Vec<_>) = source.lines().partition(|line| line.starts_with("//!"));
        let plain = |line: &&str| line.trim_start_matches("//!").strip_prefix(' ').unwrap_or_default().to_owned();
        let docs: Vec<_> = docs.iter().map(plain).collect();
        Case {
            name: path.file_stem().expect("a file").to_string_lossy().into_owned(),
            docs: docs.join("\n"),
            code: code.join("\n").trim().to_owned(),
            text: read(&path.with_extension("stderr")),
        }
    };
    let mut cases: Vec<_> = paths.into_iter().map(case).collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

impl Case {
    /// As a section of the page.
    fn section(&self) -> String {
        let Self { name, docs, code, text } = self;
        let mut title = name.replace('_', " ");
        title[..1].make_ascii_uppercase();
        let cure = docs.replacen("```\n", "```no_run,standalone_crate\n", 1);
        let hidden = |line: &&str| line.starts_with("use ") || line.starts_with("#![") || *line == "fn main() {}";
        let shown: Vec<_> =
            code.lines().map(|line| if hidden(&line) { format!("# {line}") } else { line.to_owned() }).collect();
        let file = format!("{name}.rs");
        let places = text.lines().map(|line| match (line.find("--> "), line.find(&file)) {
            (Some(arrow), Some(at)) => format!("{}--> src/lib.rs{}", &line[..arrow], &line[at + file.len()..]),
            _ => line.to_owned(),
        });
        let text: Vec<_> = places.collect();
        format!(
            "### {title}\n\n```compile_fail\n{}\n```\n\n```text\n{}\n```\n\n{cure}\n",
            shown.join("\n"),
            text.join("\n").trim_end()
        )
    }
}

#[test]
fn each_case_is_named_by_its_subject_and_has_one_error_and_a_cure() {
    let cases = cases();
    let mut wrong = Vec::new();
    for Case { name, docs, text, .. } in &cases {
        if !SUBJECTS.iter().any(|(subject, _)| name.starts_with(&format!("{subject}_"))) {
            wrong.push(format!("{name}: its first word is none of the subjects"));
        }
        let is_error = |line: &&str| line.starts_with("error:") || line.starts_with("error[");
        let errors = text.lines().filter(is_error).count();
        let several = SEVERAL_ERRORS.iter().any(|(known, _)| known == name);
        if (errors == 1) == several || errors == 0 {
            wrong.push(format!("{name}: {errors} errors"));
        }
        if docs.matches("```").count() != 2 || !docs.contains("```\n") {
            wrong.push(format!("{name}: it has no cure"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(cases.len() >= 80, "there are {} cases", cases.len());
}

#[test]
fn the_page_of_compile_errors_shows_every_case() {
    let mut page = "Every misuse that evented's attributes and functions refuse, with the text that the compiler prints, the code \
        that causes it, and the cure. Search it for the text that you have. The texts in this page are those of rustc 1.95.\n"
        .to_owned();
    let cases = cases();
    for (subject, title) in SUBJECTS {
        let of_subject = |case: &&Case| case.name.starts_with(&format!("{subject}_"));
        let sections: Vec<_> = cases.iter().filter(of_subject).map(Case::section).collect();
        page.extend(["\n## ", title, "\n\n", &sections.join("\n")]);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../evented/src/compile_errors.md");
    if env::var_os("EVENTED_BLESS").is_some() {
        fs::write(&path, &page).expect("the page can be written");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let differs = written.lines().zip(page.lines()).find(|(written, page)| written != page);
    assert!(written == page, "the page is not what the cases say; run with EVENTED_BLESS=1: {differs:?}");
}
