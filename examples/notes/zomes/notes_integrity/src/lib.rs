//! What a note is, and what makes one valid.
//!
//! This zome is the part of the app that every peer must agree on: its bytes make up the DNA hash.
//! It refuses with a sentence for a person, and by nothing that differs from peer to peer.

use hdi::prelude::*;

/// The longest title, in characters: it should fit on one line of a list.
pub const TITLE_CHARS_MAX: usize = 200;

/// A text with a title. It is never changed; it can be deleted by whoever wrote it.
#[hdk_entry_helper]
#[derive(Clone, PartialEq)]
pub struct Note {
    pub title: String,
    pub body: String,
}

/// The machine on which an agent of this app lives, named by the init call `setup`.
#[hdk_entry_helper]
#[derive(Clone, PartialEq)]
pub struct Node {
    pub name: String,
}

#[hdk_entry_types]
#[unit_enum(UnitEntryTypes)]
pub enum EntryTypes {
    Note(Note),
    Node(Node),
}

#[hdk_link_types]
pub enum LinkTypes {
    /// From the anchor of all notes to one note.
    Notes,
}

/// What a DNA's `properties` may say. All of it is optional, and so are the properties.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Properties {
    /// The longest body, in characters.
    max_body: Option<u32>,
}

#[hdk_extern]
pub fn validate(op: Op) -> ExternResult<ValidateCallbackResult> {
    let refusal = match op.flattened::<EntryTypes, LinkTypes>()? {
        FlatOp::StoreEntry(OpEntry::CreateEntry { app_entry, .. }) => refuse_entry(&app_entry)?,
        FlatOp::StoreEntry(OpEntry::UpdateEntry { .. }) => {
            Some("a note is never changed: delete it and write another".into())
        }
        FlatOp::RegisterDelete(OpDelete { action }) => {
            let original = must_get_action(action.deletes_address)?;
            refuse_deletion("a note", original.action().author(), &action.author)
        }
        FlatOp::RegisterDeleteLink {
            original_action,
            action,
            ..
        } => refuse_deletion("a link to a note", &original_action.author, &action.author),
        _ => None,
    };
    Ok(match refusal {
        Some(reason) => ValidateCallbackResult::Invalid(reason),
        None => ValidateCallbackResult::Valid,
    })
}

/// Say why an entry is refused, or nothing when it is valid.
fn refuse_entry(entry: &EntryTypes) -> ExternResult<Option<String>> {
    match entry {
        EntryTypes::Note(note) => Ok(match properties()? {
            Ok(properties) => refuse_note(note, &properties),
            Err(reason) => Some(reason),
        }),
        EntryTypes::Node(node) if node.name.trim().is_empty() => {
            Ok(Some("a node needs a name".into()))
        }
        EntryTypes::Node(_) => Ok(None),
    }
}

fn refuse_note(note: &Note, properties: &Properties) -> Option<String> {
    let title_chars = note.title.chars().count();
    let body_chars = note.body.chars().count();
    if note.title.trim().is_empty() {
        return Some("a note needs a title".into());
    }
    if title_chars > TITLE_CHARS_MAX {
        return Some(format!(
            "a title has at most {TITLE_CHARS_MAX} characters, this one has {title_chars}"
        ));
    }
    match properties.max_body {
        Some(max) if body_chars > max as usize => Some(format!(
            "a body has at most {max} characters here, this one has {body_chars}"
        )),
        _ => None,
    }
}

fn refuse_deletion(what: &str, wrote: &AgentPubKey, deletes: &AgentPubKey) -> Option<String> {
    (wrote != deletes).then(|| format!("{what} is deleted only by who wrote it"))
}

/// Read the DNA's properties: those it was installed with, or the defaults where it has none.
///
/// What cannot be read is a reason to refuse, not an error: the properties are part of the DNA's
/// hash, so every peer refuses alike, whereas an error would make each of them try again for ever.
fn properties() -> ExternResult<Result<Properties, String>> {
    let bytes = dna_info()?.modifiers.properties;
    let read = holochain_serialized_bytes::decode::<_, Option<Properties>>(bytes.bytes());
    Ok(match read {
        Ok(properties) => Ok(properties.unwrap_or_default()),
        Err(_) => Err("the DNA's properties must be like {max_body: 1000}".into()),
    })
}
