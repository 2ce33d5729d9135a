//! Hashes as text.

/// The first `bytes` bytes of a digest, in hex.
pub(crate) fn hex(digest: impl AsRef<[u8]>, bytes: usize) -> String {
    digest.as_ref().iter().take(bytes).map(|b| format!("{b:02x}")).collect()
}
