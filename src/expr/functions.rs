//! The allow list.
/// One entry of the allow list, for docs and messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    pub name: &'static str,
    pub aggregate: bool,
    pub usage: &'static str,
}
pub fn listed() -> Vec<Listed> {
    todo!()
}
