//! The kinds of the group `batch`.

use proto_kube::Resource;

use crate::Kind;

mod cron_job;
mod job;
pub(crate) use job::domain_prefixed_path;
#[cfg(test)]
mod tests;

/// The kind of a resource of this group; `None` for one that its schema alone describes.
pub(crate) fn kind(resource: &Resource) -> Option<&'static dyn Kind> {
    Some(match resource.kind {
        "CronJob" => &cron_job::CronJob,
        "Job" => &job::Job,
        _ => return None,
    })
}
