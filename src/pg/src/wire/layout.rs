//! The layout of a client's messages. pgwire reads fields without looking whether they are there, and panics.

/// Returns true if the body of a message is laid out as the protocol says, up to its last byte.
pub(crate) fn is_well_formed(kind: u8, body: &[u8]) -> bool {
    let mut rest = Fields(body);
    let read = match kind {
        // Query, and the reason of CopyFail.
        b'Q' | b'f' => rest.text(),
        // Parse: names, and the types of parameters.
        b'P' => rest.text().and_then(|()| rest.text()).and_then(|()| rest.list(|fields| fields.bytes(4))),
        // Bind: names, formats and values of parameters, formats of results.
        b'B' => rest
            .text()
            .and_then(|()| rest.text())
            .and_then(|()| rest.list(|fields| fields.bytes(2)))
            .and_then(|()| rest.list(Fields::value))
            .and_then(|()| rest.list(|fields| fields.bytes(2))),
        // Execute: a name and a number of rows.
        b'E' => rest.text().and_then(|()| rest.bytes(4)),
        // Describe and Close: a kind and a name.
        b'D' | b'C' => rest.bytes(1).and_then(|()| rest.text()),
        // Sync, Flush, Terminate, CopyDone.
        b'S' | b'H' | b'X' | b'c' => Some(()),
        // CopyData, passwords and unknown messages.
        _ => return true,
    };
    read.is_some() && rest.0.is_empty()
}

/// The fields that are left of a message; each method takes one away, `None` if it is not there.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes(&mut self, count: usize) -> Option<()> {
        self.0 = self.0.get(count..)?;
        Some(())
    }

    /// Takes a text up to its zero byte.
    fn text(&mut self) -> Option<()> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        self.bytes(end + 1)
    }

    /// Takes a number of fields, up to 65,535 as in Postgres, and the fields.
    fn list(&mut self, mut field: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        let count = u16::from_be_bytes(*self.0.first_chunk()?);
        self.bytes(2)?;
        (0..count).try_for_each(|_| field(self))
    }

    /// Takes a value of a parameter, which is NULL if its length is -1.
    fn value(&mut self) -> Option<()> {
        let length = i32::from_be_bytes(*self.0.first_chunk()?);
        self.bytes(4)?;
        if length == -1 { Some(()) } else { self.bytes(usize::try_from(length).ok()?) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_clients_are_well_formed() {
        for (kind, body) in [
            (b'Q', &b"select 1\0"[..]),
            (b'P', b"\0select $1\0\0\x01\0\0\0\x17"),
            (b'B', b"\0\0\0\x01\0\x01\0\x02\0\0\0\x02ab\xff\xff\xff\xff\0\0"),
            (b'E', b"p\0\0\0\0\0"),
            (b'D', b"S\0"),
            (b'C', b"Pp\0"),
            (b'S', b""),
            (b'd', b"anything"),
        ] {
            assert!(is_well_formed(kind, body), "{}", kind.escape_ascii());
            if kind != b'd' {
                assert!(!is_well_formed(kind, &[body, b"x"].concat()), "{} and more", kind.escape_ascii());
            }
            for short in 0..body.len() {
                assert!(kind == b'd' || !is_well_formed(kind, &body[..short]), "{} to {short}", kind.escape_ascii());
            }
        }
        assert!(!is_well_formed(b'B', b"\0\0\xff\xff\0\0\0\0"));
        assert!(!is_well_formed(b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0"));
    }

    proptest::proptest! {
        /// Well-formed messages are decoded without a panic.
        #[test]
        fn pgwire_reads_what_is_well_formed(kind: u8, body: Vec<u8>) {
            use bytes::BytesMut;
            use datafusion_postgres::pgwire::messages::{DecodeContext, PgWireFrontendMessage, ProtocolVersion};

            if is_well_formed(kind, &body) {
                let length = i32::try_from(body.len() + 4).unwrap().to_be_bytes();
                let mut packet = BytesMut::from(&[&[kind][..], &length, &body].concat()[..]);
                let mut context = DecodeContext::new(ProtocolVersion::PROTOCOL3_0);
                context.awaiting_frontend_ssl = false;
                context.awaiting_frontend_startup = false;
                let _ = PgWireFrontendMessage::decode(&mut packet, &context);
            }
        }
    }
}
