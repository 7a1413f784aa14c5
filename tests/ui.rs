//! What the attributes accept, and what they say to those who misuse them. To bless new texts, run with
//! `TRYBUILD=overwrite`, and read them as a user would.

use std::process::Command;

#[test]
fn the_attributes_accept_every_form_in_every_scope() {
    trybuild::TestCases::new().pass("ui/pass/*.rs");
}

#[test]
fn a_mistake_in_an_attribute_has_one_message_on_its_token() {
    trybuild::TestCases::new().compile_fail("ui/syntax/*.rs");
}

/// These texts are rustc's around ours, and differ a little from release to release.
#[test]
fn a_mistake_in_a_type_has_one_message_on_its_token() {
    let version = Command::new("rustc").arg("-V").output().expect("cargo runs tests where rustc is");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    if version.starts_with("rustc 1.95.") {
        trybuild::TestCases::new().compile_fail("ui/types/*.rs");
    } else {
        println!("skipped: the texts are of rustc 1.95, this is {version}");
    }
}
