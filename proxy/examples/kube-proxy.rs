//! The proxy in kube-proxy's place: reads its configuration file and asks the API server of its kubeconfig.
//!
//! `kube-proxy CONFIG NODE` · `kube-proxy --cleanup`

use std::process::ExitCode;

use client::{Cache, Client};
use proto_kube::object::text;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

type Failure = Box<dyn std::error::Error>;

async fn run(file: &str, node: &str) -> Result<(), Failure> {
    let file: Value = serde_saphyr::from_str(&std::fs::read_to_string(file)?)?;
    let kubeconfig = text(&file, &["clientConnection", "kubeconfig"]);
    let client = Client::new(&client::Config::load(kubeconfig.as_ref(), None)?, "kube-proxy/cleat")?;
    let (config, beside) = proxy::Config::read(&file, Cache::new(client), node)?;
    beside.notes.iter().for_each(|note| eprintln!("{note}"));
    beside.apply();
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.cancel();
        }
    });
    Ok(proxy::run(config, shutdown).await?)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--cleanup"] => proxy::cleanup().map_err(Failure::from),
        [file, node] => tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(Failure::from)
            .and_then(|runtime| runtime.block_on(run(file, node))),
        _ => Err("kube-proxy CONFIG NODE | kube-proxy --cleanup".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
