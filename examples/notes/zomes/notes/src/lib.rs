//! The functions of the hApp "notes", called as `notes/<function>`.
//!
//! Local first: every read says `local`, so a function answers from this conductor's own database
//! and works at once with no peer in sight; notes of other agents show up when they have arrived.
//! Hashes go out as text (`uhCkk…`), which fits JSON, and come in as text or as bytes.

use hdk::prelude::{
    holo_hash::{ActionHashB64, AgentPubKeyB64, DnaHashB64},
    *,
};
use notes_integrity::{EntryTypes, LinkTypes, Node, Note, UnitEntryTypes};
use serde::{Deserialize, Serialize};

/// All notes are linked from the hash of this path. The path itself is never stored: a link needs
/// only a hash to start from, and creating the path would ask the network first whether it is
/// there already.
const ALL_NOTES: &str = "all_notes";

/// The argument of `setup`.
#[derive(Debug, Deserialize)]
pub struct Setup {
    pub node: String,
}

/// What `create_note` answers.
#[derive(Debug, Serialize)]
pub struct Created {
    pub hash: ActionHashB64,
    pub title: String,
}

/// A note as it is listed.
#[derive(Debug, Serialize)]
pub struct Listed {
    pub hash: ActionHashB64,
    pub title: String,
    pub body: String,
    pub author: AgentPubKeyB64,
}

/// What `whoami` answers.
#[derive(Debug, Serialize)]
pub struct Identity {
    pub agent: AgentPubKeyB64,
    pub dna: DnaHashB64,
}

/// What listeners on the app's connection hear.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Signal {
    NoteCreated { title: String },
}

/// Name the node this agent lives on, once: for a manifest's `init_calls`. Returns the name.
#[hdk_extern]
pub fn setup(input: Setup) -> ExternResult<String> {
    if get_node(())?.is_some() {
        return Err(wasm_error!("already set up"));
    }
    create_entry(EntryTypes::Node(Node {
        name: input.node.clone(),
    }))?;
    Ok(input.node)
}

/// Return the name that `setup` was given, or nothing before that.
#[hdk_extern]
pub fn get_node(_: ()) -> ExternResult<Option<String>> {
    let nodes = ChainQueryFilter::new()
        .entry_type(UnitEntryTypes::Node.try_into()?)
        .include_entries(true);
    Ok(query(nodes)?
        .first()
        .and_then(entry_of::<Node>)
        .map(|node| node.name))
}

/// Write a note and put it on the list.
#[hdk_extern]
pub fn create_note(note: Note) -> ExternResult<Created> {
    let title = note.title.clone();
    let hash = create_entry(EntryTypes::Note(note))?;
    create_link(all_notes()?, hash.clone(), LinkTypes::Notes, ())?;
    Ok(Created {
        hash: hash.into(),
        title,
    })
}

/// Tell whoever listens about each new note.
///
/// The conductor calls this when the commit is done. A signal sent from `create_note` itself goes
/// out at once, even for a note that validation then refuses.
#[hdk_extern(infallible)]
pub fn post_commit(committed: Vec<SignedActionHashed>) {
    for action in committed {
        if let Err(error) = announce(action) {
            error!("cannot announce a note: {}", error);
        }
    }
}

fn announce(committed: SignedActionHashed) -> ExternResult<()> {
    if !matches!(committed.action(), Action::Create(_)) {
        return Ok(());
    }
    match get_note(committed.as_hash().clone())? {
        Some(note) => emit_signal(Signal::NoteCreated { title: note.title }),
        None => Ok(()),
    }
}

/// Return one note, or nothing where there is none (any more).
#[hdk_extern]
pub fn get_note(hash: ActionHash) -> ExternResult<Option<Listed>> {
    Ok(get(hash, GetOptions::local())?.as_ref().and_then(listed))
}

/// Return all notes, the oldest first.
#[hdk_extern]
pub fn list_notes(_: ()) -> ExternResult<Vec<Listed>> {
    Ok(note_records()?.iter().filter_map(listed).collect())
}

/// Return the titles of all notes, the oldest note's first.
#[hdk_extern]
pub fn list_titles(_: ()) -> ExternResult<Vec<String>> {
    Ok(list_notes(())?.into_iter().map(|note| note.title).collect())
}

/// Return how many notes are on the list. It counts links and reads no note, so it stays fast.
#[hdk_extern]
pub fn count_notes(_: ()) -> ExternResult<u32> {
    Ok(note_links()?.len() as u32)
}

/// Delete a note and take it off the list.
#[hdk_extern]
pub fn delete_note(hash: ActionHash) -> ExternResult<()> {
    if get_note(hash.clone())?.is_none() {
        return Err(wasm_error!("there is no note {}", hash));
    }
    delete_entry(hash.clone())?;
    for link in note_links()? {
        if link.target.clone().into_action_hash().as_ref() == Some(&hash) {
            delete_link(link.create_link_hash, GetOptions::local())?;
        }
    }
    Ok(())
}

/// Return the argument as it came, whatever it is: text, numbers, lists, maps, bytes.
///
/// Written without `#[hdk_extern]`, which would first decode the argument into a Rust type:
/// handing back the very bytes is the only way to change nothing, be it the width of a number or
/// the order of keys.
#[no_mangle]
pub extern "C" fn echo(guest_ptr: usize, len: usize) -> DoubleUSize {
    match host_args::<ExternIO>(guest_ptr, len) {
        Ok(argument) => return_ptr(argument),
        Err(error_ptr) => error_ptr,
    }
}

/// Return who this conductor speaks as, and in which DNA.
#[hdk_extern]
pub fn whoami(_: ()) -> ExternResult<Identity> {
    Ok(Identity {
        agent: agent_info()?.agent_initial_pubkey.into(),
        dna: dna_info()?.hash.into(),
    })
}

/// Fail with the given reason, to see what a caller gets.
#[hdk_extern]
pub fn fail(reason: String) -> ExternResult<()> {
    Err(wasm_error!(reason))
}

fn all_notes() -> ExternResult<EntryHash> {
    Path::from(ALL_NOTES).path_entry_hash()
}

fn note_links() -> ExternResult<Vec<Link>> {
    get_links(
        LinkQuery::try_new(all_notes()?, LinkTypes::Notes)?,
        GetStrategy::Local,
    )
}

/// Return the records of all notes that are here, in the order of their creation, read in one call
/// of the host.
///
/// Two agents can write in the same microsecond; the hash then decides, so that the order is the
/// same on every call.
fn note_records() -> ExternResult<Vec<Record>> {
    let wanted = note_links()?
        .into_iter()
        .filter_map(|link| link.target.into_action_hash())
        .map(|hash| GetInput::new(hash.into(), GetOptions::local()))
        .collect();
    let mut records: Vec<Record> = HDK
        .with(|hdk| hdk.borrow().get(wanted))?
        .into_iter()
        .flatten()
        .collect();
    records.sort_by_key(|record| (record.action().timestamp(), record.action_address().clone()));
    Ok(records)
}

/// Return a record's note as it is listed, or nothing where the record holds something else.
fn listed(record: &Record) -> Option<Listed> {
    entry_of::<Note>(record).map(|note| Listed {
        hash: record.action_address().clone().into(),
        title: note.title,
        body: note.body,
        author: record.action().author().clone().into(),
    })
}

fn entry_of<T>(record: &Record) -> Option<T>
where
    T: TryFrom<SerializedBytes, Error = SerializedBytesError>,
{
    record.entry().to_app_option().ok().flatten()
}
