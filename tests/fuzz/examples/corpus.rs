//! Writes the examples of all laws where cargo-fuzz looks for them: `cargo run -p fuzz --example corpus`.

use std::path::Path;
use std::{fs, io};

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("libfuzzer/corpus");
    for law in fuzz::LAWS {
        let folder = corpus.join(law.name);
        fs::create_dir_all(&folder)?;
        for (number, example) in law.examples().iter().enumerate() {
            fs::write(folder.join(format!("example-{number}")), example)?;
        }
    }
    println!("{}: the examples of {} targets", corpus.display(), fuzz::LAWS.len());
    Ok(())
}
