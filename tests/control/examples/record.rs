//! Records the transcripts anew on the API server of a kubeconfig: `record KUBECONFIG FILE…`. The server should be
//! upstream's, and empty.
#![allow(clippy::print_stdout)]

use std::process::Command;

use anyhow::{Context, Result};
use control_tests::transcript;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let kubeconfig = arguments.next().context("usage: record KUBECONFIG FILE…")?;
    let path = transcript::path()?;
    let home = tempfile::tempdir()?;
    for file in arguments {
        let mut steps = transcript::parse(&std::fs::read_to_string(&file).context(file.clone())?);
        for step in &mut steps {
            let mut client = Command::new("sh");
            client.env_clear().env("PATH", &path).env("HOME", home.path()).env("KUBECONFIG", &kubeconfig);
            client.current_dir(home.path());
            step.output = transcript::run(client, &step.command)?;
        }
        std::fs::write(&file, transcript::print(&steps)).context(file.clone())?;
        println!("{file}: {} steps", steps.len());
    }
    Ok(())
}
