//! Embedding is done by a macro that cargo cannot see through: without this, a new migration file is left out silently.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
