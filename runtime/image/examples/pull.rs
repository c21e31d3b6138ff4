//! Pulls an image into a new store and says how long that took: `pull <directory> <reference>`.

use std::path::PathBuf;
use std::time::Instant;

use image::{Platform, Registries, Store};

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(directory), Some(reference)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: pull <directory> <reference>");
        std::process::exit(2);
    };
    let begin = Instant::now();
    let store = Store::open(&PathBuf::from(directory)).expect("a store");
    let registries = Registries::new(Vec::new(), None);
    match store.pull(&registries, &reference, None, &Platform::host()).await {
        Ok(image) => println!("{} {} bytes in {:?}", image.id, image.size, begin.elapsed()),
        Err(error) => {
            let mut cause: Option<&dyn std::error::Error> = Some(&error);
            while let Some(error) = cause {
                eprintln!("{error}");
                cause = error.source();
            }
            std::process::exit(1);
        }
    }
}
