//! An image with socat: busybox has nothing that serves UDP.

use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow};
use lab::image::{Image, Tree};
use lab::{debian::Debian, demo};
use serde_json::json;

use crate::Bed;

static IMAGE: OnceLock<Image> = OnceLock::new();

/// Makes the image; before [`run`](crate::run), as no package is to be had in the network of a node.
///
/// # Errors
/// When the package is not to be had, or the image is made twice.
pub fn prepare() -> Result<()> {
    let debian = Debian::open()?;
    let mut tree = Tree::default();
    debian.program(&mut tree, "socat", "usr/bin/socat")?;
    let run = json!({"Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]});
    let image = Image::new(&[&demo::base(&debian)?, &tree], &run)?;
    IMAGE.set(image).map_err(|_| anyhow!("the image is made once"))
}

/// The image's name, once it is in the registry of each node.
///
/// # Errors
/// When it is not made.
pub fn image(bed: &Bed) -> Result<String> {
    let image = IMAGE.get().context("the image is not made")?;
    let references = [0, 1].map(|node| bed.cluster.node(node).push("socat", image));
    Ok(references[0].clone())
}
