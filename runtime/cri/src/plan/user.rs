//! Who a container's process runs as: the pod's wishes, the image's user, and the image's own `/etc/passwd` and
//! `/etc/group`.

use proto_cri::{LinuxContainerSecurityContext, SupplementalGroupsPolicy};

use super::PlanError;

/// Identity and home of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The primary group first (CVE-2023-25173: a process must not lose it by dropping others), no duplicates.
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

/// The image's account files; empty where the image has none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Accounts {
    pub(crate) passwd: String,
    pub(crate) group: String,
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl Accounts {
    fn users(&self) -> impl Iterator<Item = Account<'_>> {
        self.passwd.lines().filter_map(|line| {
            let mut fields = line.trim().split(':');
            let (name, uid) = (fields.next()?, fields.nth(1)?.parse().ok()?);
            let gid = fields.next()?.parse().ok()?;
            Some(Account { name, uid, gid, home: fields.nth(1).unwrap_or_default() })
        })
    }

    /// Group name, id, members.
    fn groups(&self) -> impl Iterator<Item = (&str, u32, &str)> {
        self.group.lines().filter_map(|line| {
            let mut fields = line.trim().split(':');
            let (name, gid) = (fields.next()?, fields.nth(1)?.parse().ok()?);
            Some((name, gid, fields.next().unwrap_or_default()))
        })
    }
}

/// Resolves the user: `run_as_username`, then `run_as_user`, then the image's; `run_as_group` needs one of the
/// first two. A number need not be in `/etc/passwd`; a name must.
pub(crate) fn user(
    context: &LinuxContainerSecurityContext,
    image_user: &str,
    accounts: &Accounts,
) -> Result<User, PlanError> {
    let wished = if context.run_as_username.is_empty() {
        context.run_as_user.as_ref().map(|uid| uid.value.to_string())
    } else {
        Some(context.run_as_username.clone())
    };
    if wished.is_none() && context.run_as_group.is_some() {
        return Err(PlanError::invalid(
            "linux.security_context.run_as_group",
            "is given without run_as_user or run_as_username",
        ));
    }
    let from_image = wished.is_none();
    let (name, group) = match &wished {
        Some(name) => (name.as_str(), context.run_as_group.as_ref().map(|gid| gid.value.to_string())),
        None => match image_user.split_once(':') {
            Some((name, group)) => (name, Some(group.to_owned()).filter(|group| !group.is_empty())),
            None => (image_user, None),
        },
    };
    let name = if name.is_empty() { "0" } else { name };
    let field = if from_image { "the image's user" } else { "linux.security_context.run_as_user" };
    let account = match id(name, field)? {
        Some(uid) => accounts.users().find(|user| user.uid == uid).or(Some(Account {
            name: "",
            uid,
            gid: 0,
            home: "",
        })),
        None => accounts.users().find(|user| user.name == name),
    };
    let account = account.ok_or_else(|| {
        PlanError::invalid(field, format!("{name:?} is not in the image's /etc/passwd; use a number"))
    })?;
    let gid = match &group {
        Some(group) => group_id(group, accounts)?,
        None => account.gid,
    };
    let home = if account.home.is_empty() { "/" } else { account.home };
    let groups = groups(context, accounts, account.name, gid)?;
    Ok(User { uid: account.uid, gid, groups, home: home.to_owned() })
}

/// A number in the kernel's range, `None` for a name.
fn id(text: &str, field: &str) -> Result<Option<u32>, PlanError> {
    match text.parse::<i64>() {
        Err(_) => Ok(None),
        // The kernel reserves the last two ids: -1 means "unchanged", -2 overflow on some file systems.
        Ok(number) => u32::try_from(number)
            .ok()
            .filter(|number| *number <= i32::MAX.unsigned_abs())
            .map(Some)
            .ok_or_else(|| PlanError::invalid(field, format!("{number} is out of range 0..=2147483647"))),
    }
}

fn group_id(group: &str, accounts: &Accounts) -> Result<u32, PlanError> {
    let field = "linux.security_context.run_as_group";
    match id(group, field)? {
        Some(gid) => Ok(gid),
        None => accounts.groups().find(|(name, ..)| *name == group).map(|(_, gid, _)| gid).ok_or_else(|| {
            PlanError::invalid(field, format!("{group:?} is not in the image's /etc/group; use a number"))
        }),
    }
}

fn groups(
    context: &LinuxContainerSecurityContext,
    accounts: &Accounts,
    name: &str,
    gid: u32,
) -> Result<Vec<u32>, PlanError> {
    let mut groups = vec![gid];
    if context.supplemental_groups_policy() == SupplementalGroupsPolicy::Merge && !name.is_empty() {
        let of_user =
            accounts.groups().filter(|(.., members)| members.split(',').any(|member| member == name));
        groups.extend(of_user.map(|(_, gid, _)| gid));
    }
    for group in &context.supplemental_groups {
        let field = "linux.security_context.supplemental_groups";
        groups.extend(id(&group.to_string(), field)?);
    }
    let mut seen = std::collections::BTreeSet::new();
    groups.retain(|group| seen.insert(*group));
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use proto_cri::Int64Value;

    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0:root:/root:/bin/sh\nbroken\nalice:x:1000:1001::/home/alice:/bin/sh\n".into(),
            group: "root:x:0:\nstaff:x:50:bob,alice\nalice:x:1001:\nbad:x:nan:alice\nopt:x:70:alice\n".into(),
        }
    }

    fn context(edit: impl FnOnce(&mut LinuxContainerSecurityContext)) -> LinuxContainerSecurityContext {
        let mut context = LinuxContainerSecurityContext::default();
        edit(&mut context);
        context
    }

    fn value(value: i64) -> Option<Int64Value> {
        Some(Int64Value { value })
    }

    #[test]
    fn users() {
        type Case =
            (&'static str, LinuxContainerSecurityContext, &'static str, (u32, u32, Vec<u32>, &'static str));
        let cases: Vec<Case> = vec![
            ("nothing is root", context(|_| ()), "", (0, 0, vec![0], "/root")),
            ("image name", context(|_| ()), "alice", (1000, 1001, vec![1001, 50, 70], "/home/alice")),
            ("image pair", context(|_| ()), "1000:staff", (1000, 50, vec![50, 70], "/home/alice")),
            ("image ids nobody knows", context(|_| ()), "7:8", (7, 8, vec![8], "/")),
            (
                "uid over image",
                context(|c| c.run_as_user = value(1000)),
                "root",
                (1000, 1001, vec![1001, 50, 70], "/home/alice"),
            ),
            (
                "unknown uid has group 0",
                context(|c| c.run_as_user = value(4242)),
                "alice",
                (4242, 0, vec![0], "/"),
            ),
            (
                "name over uid, with group",
                context(|c| {
                    c.run_as_user = value(5);
                    c.run_as_username = "alice".into();
                    c.run_as_group = value(9);
                }),
                "",
                (1000, 9, vec![9, 50, 70], "/home/alice"),
            ),
            (
                "strict ignores /etc/group",
                context(|c| {
                    c.run_as_user = value(1000);
                    c.supplemental_groups = vec![1234, 1001];
                    c.set_supplemental_groups_policy(SupplementalGroupsPolicy::Strict);
                }),
                "",
                (1000, 1001, vec![1001, 1234], "/home/alice"),
            ),
        ];
        for (name, context, image, (uid, gid, groups, home)) in cases {
            let expected = User { uid, gid, groups, home: home.into() };
            assert_eq!(user(&context, image, &accounts()).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn refusals_name_the_field() {
        let cases = [
            (context(|c| c.run_as_group = value(1)), "", "run_as_group"),
            (context(|c| c.run_as_username = "carol".into()), "", "carol"),
            (context(|c| c.run_as_user = value(-1)), "", "out of range"),
            (context(|c| c.run_as_user = value(1 << 31)), "", "out of range"),
            (context(|_| ()), "alice:nogroup", "/etc/group"),
            (context(|c| c.supplemental_groups = vec![-4]), "", "supplemental_groups"),
        ];
        for (context, image, expected) in cases {
            let error = user(&context, image, &accounts()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error} lacks {expected}");
        }
    }
}
