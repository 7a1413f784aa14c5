//! Nothing to build. Cargo asks for a build script where the manifest has `links`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
