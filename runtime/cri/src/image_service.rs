//! The image service: PullImage, ImageStatus, ListImages, RemoveImage, ImageFsInfo. An image's id is its
//! `image_ref` everywhere.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use image::{Credentials, Platform, PullErrorKind};
use proto_cri::{
    AuthConfig, FilesystemIdentifier, FilesystemUsage, Image, ImageFilter, ImageFsInfoResponse, ImageSpec,
    ImageStatusRequest, ImageStatusResponse, Int64Value, PullImageRequest, PullImageResponse,
    RemoveImageRequest, RemoveImageResponse, UInt64Value,
};
use serde_json::{Value, json};

use crate::error::{Failure, chain};
use crate::node::{Node, blocking, now};

impl Node {
    /// Who pulls what is being pulled joins. A client that gives up ends its pull, but not that of others.
    pub(crate) async fn pull_image(&self, request: PullImageRequest) -> Result<PullImageResponse, Failure> {
        let wished = name(request.image.as_ref())?;
        let credentials = request.auth.as_ref().map(credentials).transpose()?.flatten();
        let pulled = self.images.pull(&self.registries, wished, credentials, &Platform::host()).await;
        let image = pulled.map_err(|error| {
            let text = format!("cannot pull {wished:?}: {}", chain(error.as_ref()));
            match error.kind() {
                PullErrorKind::Invalid => Failure::Invalid(text),
                PullErrorKind::NotFound => Failure::Absent(text),
                PullErrorKind::Unauthorized => Failure::Denied(text),
                PullErrorKind::Unavailable => Failure::Unavailable(text),
                PullErrorKind::Full => Failure::Exhausted(text),
                PullErrorKind::Corrupt | PullErrorKind::Internal => Failure::Internal(text),
            }
        })?;
        Ok(PullImageResponse { image_ref: image.id.as_str().to_owned() })
    }

    pub(crate) fn image_status(&self, request: &ImageStatusRequest) -> Result<ImageStatusResponse, Failure> {
        let wished = name(request.image.as_ref())?;
        let found =
            self.images.get(wished).map_err(|error| Failure::internal("cannot look up the image", &error))?;
        let Some(found) = found else { return Ok(ImageStatusResponse::default()) };
        let mut info = HashMap::new();
        if request.verbose {
            let document = self.images.config_document(found.id.as_str()).unwrap_or_default();
            let document = serde_json::from_slice::<Value>(&document).unwrap_or_default();
            let text = json!({ "imageSpec": document, "layers": found.layers.len() }).to_string();
            info.insert("info".to_owned(), text);
        }
        Ok(ImageStatusResponse { image: Some(image_of(&found)), info })
    }

    pub(crate) fn list_images(&self, filter: Option<&ImageFilter>) -> Result<Vec<Image>, Failure> {
        let fail = |error| Failure::internal("cannot list images", &error);
        let wished = filter.and_then(|filter| filter.image.as_ref()).map_or("", |image| image.image.as_str());
        let all = match wished {
            "" => self.images.list().map_err(fail)?,
            wished => self.images.get(wished).map_err(fail)?.into_iter().collect(),
        };
        Ok(all.iter().map(image_of).collect())
    }

    /// The whole image goes, with all its names. Containers keep the layers they use.
    pub(crate) async fn remove_image(
        self: &Arc<Self>,
        request: RemoveImageRequest,
    ) -> Result<RemoveImageResponse, Failure> {
        let wished = name(request.image.as_ref())?.to_owned();
        let node = self.clone();
        blocking(move || {
            let fail = |error| Failure::internal("cannot remove the image", &error);
            if let Some(image) = node.images.get(&wished).map_err(fail)? {
                node.images.remove(image.id.as_str()).map_err(fail)?;
            }
            Ok(RemoveImageResponse {})
        })
        .await
    }

    pub(crate) async fn image_fs_info(self: &Arc<Self>) -> Result<ImageFsInfoResponse, Failure> {
        let node = self.clone();
        blocking(move || {
            let of = |mountpoint: String, usage: image::Usage| FilesystemUsage {
                timestamp: now(),
                fs_id: Some(FilesystemIdentifier { mountpoint }),
                used_bytes: Some(UInt64Value { value: usage.bytes }),
                inodes_used: Some(UInt64Value { value: usage.inodes }),
            };
            let images = node.disk.size("images", || node.images.usage().unwrap_or_default());
            let snapshots = node.config.data_dir.join("snapshots");
            let written = node.disk.size("snapshots", || image::disk_use(&snapshots).unwrap_or_default());
            Ok(ImageFsInfoResponse {
                image_filesystems: vec![of(node.images.root().display().to_string(), images)],
                container_filesystems: vec![of(node.snapshot_fs().mountpoint, written)],
            })
        })
        .await
    }
}

fn name(image: Option<&ImageSpec>) -> Result<&str, Failure> {
    let name = image.map(|image| image.image.as_str()).filter(|name| !name.is_empty());
    name.ok_or_else(|| Failure::Invalid("image.image: is empty".to_owned()))
}

/// What the client sends; `None` if it sends nothing.
fn credentials(auth: &AuthConfig) -> Result<Option<Credentials>, Failure> {
    if !auth.registry_token.is_empty() {
        return Ok(Some(Credentials::RegistryToken(auth.registry_token.clone())));
    }
    if !auth.identity_token.is_empty() {
        return Ok(Some(Credentials::IdentityToken(auth.identity_token.clone())));
    }
    if !auth.username.is_empty() {
        let (username, password) = (auth.username.clone(), auth.password.clone());
        return Ok(Some(Credentials::Basic { username, password }));
    }
    if auth.auth.is_empty() {
        return Ok(None);
    }
    let decoded =
        BASE64_STANDARD.decode(auth.auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_deref().and_then(|text| text.trim_end_matches('\0').split_once(':'));
    let (username, password) =
        pair.ok_or_else(|| Failure::Invalid("auth.auth: is not base64 of user:password".to_owned()))?;
    Ok(Some(Credentials::Basic { username: username.to_owned(), password: password.to_owned() }))
}

fn image_of(image: &image::Image) -> Image {
    let user = image.config.user.split(':').next().unwrap_or_default();
    let uid = user.parse::<i64>().ok();
    let named = if uid.is_none() { user.to_owned() } else { String::new() };
    Image {
        id: image.id.as_str().to_owned(),
        repo_tags: image.tags.clone(),
        repo_digests: image.digests.clone(),
        size: image.size,
        uid: uid.map(|value| Int64Value { value }),
        username: named,
        spec: None,
        pinned: image.pinned,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credential_forms() {
        let pair = |username: &str, password: &str| {
            Some(Credentials::Basic { username: username.into(), password: password.into() })
        };
        let auth = |text: &str| AuthConfig { auth: text.into(), ..Default::default() };
        assert_eq!(credentials(&AuthConfig::default()).unwrap(), None);
        assert_eq!(credentials(&auth("dTpwOnE=")).unwrap(), pair("u", "p:q"));
        assert!(credentials(&auth("%%%")).is_err());
        let named = AuthConfig { username: "u".into(), password: "p".into(), ..Default::default() };
        assert_eq!(credentials(&named).unwrap(), pair("u", "p"));
    }
}
