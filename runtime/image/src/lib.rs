//! Images: registry client, content store, unpacking, overlayfs snapshots.
