//! Cluster roles that are made of others get their rules.

use proto_kube::{Resource, object};
use serde_json::Value;
use store::{CommitError, Range, Txn, Write};

use crate::server::Server;
use crate::stored;

/// Writes the rules of every cluster role with an `aggregationRule` whose rules are others than they should be. What is
/// gathered from it in turn follows by the event of that write.
///
/// # Errors
/// What the store has against it.
pub(super) async fn gather(server: &Server, roles: &Resource) -> Result<(), String> {
    let prefix = roles.prefix().ok_or("not kept")?;
    let page = server.store.range(&prefix, Range::default()).map_err(|e| e.to_string())?;
    let read = |entry: &store::Entry<_>| serde_json::from_slice::<Value>(&entry.value).ok();
    let all: Vec<Value> = page.entries.iter().filter_map(|e| read(e)).collect();
    for entry in &page.entries {
        let Some(mut role) = read(entry) else { continue };
        if object::is_terminating(&role) {
            continue;
        }
        let Some(rules) = authz::rbac::aggregate(&role, &all) else { continue };
        role["rules"] = rules.into();
        let write = Write::update(entry.key.to_string(), stored::encode(&role), entry.mod_revision);
        match server.store.commit(Txn::one(write)).await {
            // Who has changed it makes the event by which it is looked at again.
            Ok(_) | Err(CommitError::Conflict { .. }) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}
