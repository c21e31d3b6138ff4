//! The store without registries: index, references, holds, collection.
