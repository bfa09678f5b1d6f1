//! WebSocket frames by hand (RFC 6455 §5.2): a client's as it likes, a server's as they must be.

/// One frame of a client.
pub(super) struct Sent<'a> {
    /// FIN, reserved bits, opcode.
    pub(super) first: u8,
    pub(super) masked: bool,
    pub(super) payload: &'a [u8],
}

impl Sent<'_> {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
        let bit = if self.masked { 0x80 } else { 0 };
        out.push(self.first);
        match self.payload.len() {
            len @ 0..126 => out.push(bit | len as u8),
            len => {
                out.push(bit | 126);
                out.extend_from_slice(&(len as u16).to_be_bytes());
            }
        }
        if self.masked {
            out.extend_from_slice(&MASK);
        }
        let mask = if self.masked { MASK } else { [0; 4] };
        out.extend(self.payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    }
}

/// What a server sent: the texts, and the code it closed with. Bytes of a frame that is not whole are left out.
pub(super) struct Received<'a> {
    pub(super) texts: Vec<&'a str>,
    pub(super) closed: Option<u16>,
}

/// Reads a server's frames.
///
/// # Panics
/// They are not as RFC 6455 wants them, or something follows a close.
pub(super) fn from_server(mut bytes: &[u8]) -> Received<'_> {
    let mut received = Received { texts: Vec::new(), closed: None };
    while let Some((first, payload, rest)) = frame(bytes) {
        assert!(received.closed.is_none(), "a frame behind the close");
        // Nothing is compressed and nothing of ours is sent in fragments.
        assert_eq!(first & 0xf0, 0x80, "FIN without reserved bits");
        match first & 15 {
            1 => received.texts.push(std::str::from_utf8(payload).unwrap_or_else(|e| panic!("text with {e}"))),
            8 => {
                assert!(payload.len() != 1 && payload.len() <= 125);
                let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                // §7.4.1, and what an endpoint may make up (§7.4.2): a client's own code is echoed.
                assert!(matches!(code, 1000..=1003 | 1005 | 1007..=1014 | 3000..5000), "close {code}");
                assert!(std::str::from_utf8(payload.get(2..).unwrap_or_default()).is_ok());
                received.closed = Some(code);
            }
            9 | 10 => assert!(payload.len() <= 125),
            opcode => panic!("opcode {opcode}"),
        }
        bytes = rest;
    }
    received
}

fn frame(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let [first, second, rest @ ..] = bytes else { return None };
    assert!(second & 0x80 == 0, "a server's frames have no mask");
    let (len, rest) = match second {
        126 => rest.split_first_chunk().map(|(len, rest)| (usize::from(u16::from_be_bytes(*len)), rest))?,
        127 => rest.split_first_chunk().map(|(len, rest)| (u64::from_be_bytes(*len) as usize, rest))?,
        len => (usize::from(*len), rest),
    };
    let payload = rest.get(..len)?;
    Some((*first, payload, &rest[len..]))
}
