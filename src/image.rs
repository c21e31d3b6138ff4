//! `cleat image`: the image store, with or without a running node.

use std::path::Path;

use anyhow::{Context, bail};
use image::{Image, Platform, Registries, Store};
use serde_json::{Value, json};

use crate::args::{self, Format, ImageVerb};
use crate::ctl;
use crate::output::table;
use crate::paths::Paths;
use crate::progress;

pub(crate) async fn run(args: args::Image) -> anyhow::Result<()> {
    let dir = Paths::resolve(&args.dirs)?.images();
    let store = Store::open(&dir).with_context(|| format!("opening the image store {}", dir.display()))?;
    let shown = tokio::spawn(progress::pulls(store.clone()));
    let result = match args.verb {
        ImageVerb::Pull { references, platform } => {
            let platform = match platform {
                Some(typed) => typed.parse().with_context(|| format!("--platform {typed}"))?,
                None => Platform::host(),
            };
            let registries = Registries::new(vec![args.registry_config], Some(args.registry_auth));
            pull(&store, &registries, &references, &platform, args.output).await
        }
        ImageVerb::Load { archives } => load(&store, &archives, args.output).await,
        ImageVerb::Ls => list(&store, args.output),
        ImageVerb::Rm { images } => remove(&store, &images),
    };
    shown.abort();
    result
}

async fn pull(
    store: &Store,
    registries: &Registries,
    references: &[String],
    platform: &Platform,
    format: Format,
) -> anyhow::Result<()> {
    for reference in references {
        let image = store
            .pull(registries, reference, None, platform)
            .await
            .with_context(|| format!("pulling {reference}"))?;
        print(&[image], format, |image| format!("{reference} {}", image.id))?;
    }
    Ok(())
}

async fn load(store: &Store, archives: &[std::path::PathBuf], format: Format) -> anyhow::Result<()> {
    for archive in archives {
        let archive = if archive == Path::new("-") { Path::new("/dev/stdin") } else { archive };
        let images = store
            .load(archive, &Platform::host())
            .await
            .with_context(|| format!("loading {}", archive.display()))?;
        print(&images, format, |image| {
            format!("{} {}", image.tags.first().map_or("<none>", String::as_str), image.id)
        })?;
    }
    Ok(())
}

fn print(images: &[Image], format: Format, line: impl Fn(&Image) -> String) -> anyhow::Result<()> {
    for image in images {
        match format {
            Format::Json | Format::Yaml => format.print(&object(image))?,
            Format::Table | Format::Wide | Format::Name => println!("{}", line(image)),
        }
    }
    Ok(())
}

fn list(store: &Store, format: Format) -> anyhow::Result<()> {
    let images: Vec<Value> = store.list()?.iter().map(object).collect();
    if matches!(format, Format::Json | Format::Yaml) {
        format.print(&json!({ "kind": "ImageList", "items": images }))?;
    } else {
        let (header, rows) = ctl::image_table(&images);
        print!("{}", table(&header, &rows));
    }
    Ok(())
}

fn object(image: &Image) -> Value {
    json!({
        "id": image.id, "tags": image.tags, "digests": image.digests, "size": image.size, "pinned": image.pinned,
        "platform": image.platform.to_string(),
    })
}

fn remove(store: &Store, images: &[String]) -> anyhow::Result<()> {
    let mut missing = Vec::new();
    for image in images {
        if store.remove(image).with_context(|| format!("removing {image}"))? {
            println!("removed {image}");
        } else {
            missing.push(image.as_str());
        }
    }
    if !missing.is_empty() {
        bail!("no such image: {}; `cleat image ls` lists all", missing.join(", "));
    }
    Ok(())
}
