//! The name of the manager that a request stands for.

/// How long the name of a manager may be, in bytes.
const LONGEST: usize = 128;

/// The `fieldManager` parameter, or when it is empty what stands before the first `/` of the user agent, without what
/// cannot be printed and cut to 128 bytes.
#[must_use]
pub fn manager(field_manager: &str, user_agent: &str) -> String {
    if !field_manager.is_empty() {
        return field_manager.to_owned();
    }
    let mut name = String::new();
    for c in user_agent.split('/').next().unwrap_or_default().chars().filter(|c| !c.is_control()) {
        if name.len() + c.len_utf8() > LONGEST {
            break;
        }
        name.push(c);
    }
    name
}
