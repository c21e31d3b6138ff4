//! The `cleat` program: picks the daemon or the command, nothing else.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod args;
mod cluster;
mod control;
mod ctl;
mod daemon;
mod down;
mod drain;
mod image;
mod install;
mod join;
mod network;
mod node;
mod output;
mod parts;
mod paths;
mod plane;
mod progress;
mod reset;
mod token;
mod up;
mod why;
mod worker;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    end_when_unheard();
    match run(args::Cleat::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{} {error:#}", output::paint("error:", output::RED));
            ExitCode::FAILURE
        }
    }
}

/// Who closes our output, as `| head` does, has seen enough: that is no fault to report. The code is that of a program
/// which the signal ends.
fn end_when_unheard() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload_as_str().unwrap_or_default();
        if text.starts_with("failed printing to stdout: Broken pipe") {
            std::process::exit(141);
        }
        usual(panic);
    }));
}

fn run(cleat: args::Cleat) -> anyhow::Result<ExitCode> {
    daemon::log_to_stderr(&cleat.log);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build()?;
    let done = |()| ExitCode::SUCCESS;
    let result = runtime.block_on(async {
        match cleat.command {
            args::Command::Up(up) => up::run(*up).await.map(done),
            args::Command::Join(join) => join::join(*join).await.map(done),
            args::Command::Node(node) => join::node(*node).await.map(done),
            args::Command::Reset(reset) => reset::run(reset).await.map(done),
            args::Command::Token(token) => token::run(token).await.map(done),
            args::Command::Down(down) => down::run(down).await.map(done),
            args::Command::Cri(cri) => daemon::cri(cri).await.map(done),
            args::Command::Agent(agent) => daemon::agent(agent).await.map(done),
            args::Command::Control(control) => control::run(*control).await.map(done),
            args::Command::Ctl(ctl) => ctl::run(ctl).await,
            args::Command::Why(why) => why::run(why).await.map(done),
            args::Command::Image(image) => image::run(image).await.map(done),
            args::Command::Install(install) => install::run(&install).map(done),
            args::Command::Completion { shell } => {
                args::completion(shell);
                Ok(ExitCode::SUCCESS)
            }
        }
    });
    // A blocked read of the terminal (exec -i) must not hold up the exit.
    runtime.shutdown_background();
    result
}
