//! Which protocol a connection speaks: a pure choice from what the client offers.

use crate::session::Report;

/// Exec and attach over a websocket whose channels can be closed one by one.
pub(crate) const CLOSABLE: &str = "v5.channel.k8s.io";
/// SPDY carried in binary messages of a websocket, for port-forward.
pub(crate) const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
/// SPDY port-forward.
pub(crate) const PORT_FORWARD: &str = "portforward.k8s.io";
/// SPDY exec and attach, best first. The last one is also meant where a client names none.
const COMMANDS: [&str; 4] = ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];

/// How exec or attach is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CommandProtocol {
    /// What to tell the client; `None` where it named none.
    pub(crate) name: Option<&'static str>,
    pub(crate) version: u8,
    /// Websocket: text messages in base64.
    pub(crate) base64: bool,
}

impl CommandProtocol {
    const fn new(name: &'static str, version: u8, base64: bool) -> Self {
        Self { name: Some(name), version, base64 }
    }

    pub(crate) fn report(self) -> Report {
        if self.version >= 4 { Report::Json } else { Report::Text }
    }

    /// Whether the client opens a stream for the sizes of its terminal (SPDY).
    pub(crate) fn has_resize(self) -> bool {
        self.version >= 3
    }
}

/// What we speak over websocket, for exec and attach.
const WEBSOCKET_COMMANDS: [CommandProtocol; 5] = [
    CommandProtocol::new(CLOSABLE, 5, false),
    CommandProtocol::new("v4.channel.k8s.io", 4, false),
    CommandProtocol::new("v4.base64.channel.k8s.io", 4, true),
    CommandProtocol::new("channel.k8s.io", 1, false),
    CommandProtocol::new("base64.channel.k8s.io", 1, true),
];

/// Exec or attach over SPDY. `None` when the client offers nothing we speak.
pub(crate) fn spdy_command(offered: &[String]) -> Option<CommandProtocol> {
    if offered.is_empty() {
        return Some(CommandProtocol { name: None, version: 1, base64: false });
    }
    let position = COMMANDS.iter().position(|known| offered.iter().any(|offer| offer == known))?;
    let version = u8::try_from(COMMANDS.len() - position).expect("four versions");
    Some(CommandProtocol::new(COMMANDS[position], version, false))
}

/// Exec or attach over websocket: the first of the client's offers that we speak.
pub(crate) fn websocket_command(offered: &[String]) -> Option<CommandProtocol> {
    if offered.is_empty() {
        return Some(CommandProtocol { name: None, version: 1, base64: false });
    }
    let known = |offer: &String| WEBSOCKET_COMMANDS.into_iter().find(|known| known.name == Some(offer));
    offered.iter().find_map(known)
}

/// How a body is told over websocket: the name to answer with, and whether it is text in base64.
pub(crate) fn websocket_body(offered: &[String]) -> Option<(Option<&'static str>, bool)> {
    const BODIES: [(Option<&str>, bool); 2] =
        [(Some("binary.k8s.io"), false), (Some("base64.binary.k8s.io"), true)];
    if offered.is_empty() {
        return Some((None, false));
    }
    offered.iter().find_map(|offer| BODIES.into_iter().find(|known| known.0 == Some(offer)))
}

/// How port-forward is spoken over websocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ForwardProtocol {
    /// SPDY inside.
    Tunnel,
    /// Two channels a port, the ports from the CRI request.
    Channels { name: Option<&'static str>, base64: bool },
}

/// Port-forward over websocket: the first of the client's offers that we speak.
pub(crate) fn websocket_forward(offered: &[String]) -> Option<ForwardProtocol> {
    if offered.is_empty() {
        return Some(ForwardProtocol::Channels { name: None, base64: false });
    }
    offered.iter().find_map(|offer| match offer.as_str() {
        TUNNEL => Some(ForwardProtocol::Tunnel),
        "v4.channel.k8s.io" => {
            Some(ForwardProtocol::Channels { name: Some("v4.channel.k8s.io"), base64: false })
        }
        "v4.base64.channel.k8s.io" => {
            Some(ForwardProtocol::Channels { name: Some("v4.base64.channel.k8s.io"), base64: true })
        }
        _ => None,
    })
}

/// Port-forward over SPDY: the name to answer with (none where the client named none).
pub(crate) fn spdy_forward(offered: &[String]) -> Option<Option<&'static str>> {
    match offered {
        [] => Some(None),
        offered => offered.iter().any(|offer| offer == PORT_FORWARD).then_some(Some(PORT_FORWARD)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offers(offered: &str) -> Vec<String> {
        offered.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn spdy_takes_our_best_and_websocket_the_clients_first() {
        for (offered, expected) in [
            ("", Some((None, 1))),
            (
                "v4.channel.k8s.io v3.channel.k8s.io v2.channel.k8s.io channel.k8s.io",
                Some((Some("v4.channel.k8s.io"), 4)),
            ),
            ("channel.k8s.io v2.channel.k8s.io", Some((Some("v2.channel.k8s.io"), 2))),
            ("v9.channel.k8s.io", None),
        ] {
            let chosen = spdy_command(&offers(offered));
            assert_eq!(chosen.map(|chosen| (chosen.name, chosen.version)), expected, "{offered}");
        }
        for (offered, expected) in [
            ("", Some((None, false))),
            ("other base64.binary.k8s.io binary.k8s.io", Some((Some("base64.binary.k8s.io"), true))),
            ("channel.k8s.io", None),
        ] {
            assert_eq!(websocket_body(&offers(offered)), expected, "{offered}");
        }
        for (offered, expected) in [
            ("", Some((1, false))),
            ("v5.channel.k8s.io", Some((5, false))),
            ("other v4.base64.channel.k8s.io v5.channel.k8s.io", Some((4, true))),
            ("base64.channel.k8s.io", Some((1, true))),
            ("other", None),
        ] {
            let chosen = websocket_command(&offers(offered));
            assert_eq!(chosen.map(|chosen| (chosen.version, chosen.base64)), expected, "{offered}");
        }
    }

    #[test]
    fn port_forward() {
        assert_eq!(websocket_forward(&offers(TUNNEL)), Some(ForwardProtocol::Tunnel));
        assert_eq!(websocket_forward(&offers("nothing")), None);
        assert_eq!(spdy_forward(&offers("portforward.k8s.io")), Some(Some(PORT_FORWARD)));
        assert_eq!(spdy_forward(&offers("nothing")), None);
        assert_eq!(spdy_forward(&[]), Some(None));
    }
}
