//! The core's engine calls and scopes in the engine's own words. Decides nothing.

use std::sync::Arc;

use sheaf_engines as port;
use sheaf_engines::{Accept, Engine, EngineError};
use sheaf_gate::{Changed, EngineCall, EngineReply, Page, Scan, Scanned, Scope, Select, Write};
use sheaf_types::StoredPoint;

/// Which points a request of this scope may see.
pub fn accept(scope: &Scope) -> Accept {
    match scope {
        Scope::All => Accept::All,
        Scope::Owned { map, me } => {
            let (map, me) = (map.clone(), *me);
            Accept::Only(Arc::new(move |key| map.owner(key) == Some(me)))
        }
    }
}

fn selected(select: Select) -> Accept {
    match select {
        Select::Moving { moves, mv } => {
            Accept::Only(Arc::new(move |key| moves.of(key) == Some(mv)))
        }
        Select::Foreign { map, me } => {
            Accept::Only(Arc::new(move |key| map.owner(key) != Some(me)))
        }
    }
}

/// Has the engine carry out a call of the core.
pub async fn call(engine: &dyn Engine, call: EngineCall) -> EngineReply {
    let reply = match call {
        EngineCall::CreateCollection { id, config } => {
            match engine.create_collection(id, config).await {
                Err(EngineError::Invalid(reason) | EngineError::Unsupported(reason)) => {
                    Ok(EngineReply::CannotHold { reason })
                }
                created => created.map(|()| EngineReply::Done),
            }
        }
        EngineCall::DropCollection { id } => {
            engine.drop_collection(id).await.map(|()| EngineReply::Done)
        }
        EngineCall::Scan(wanted) => scan(engine, wanted).await,
        EngineCall::Read { collection, ids } => {
            engine.get(collection, ids).await.map(EngineReply::Points)
        }
        EngineCall::Apply { collection, writes } => {
            let writes = writes.into_iter().map(write).collect();
            match engine.apply(collection, writes).await {
                Err(EngineError::Invalid(reason) | EngineError::Unsupported(reason)) => {
                    Ok(EngineReply::CannotHold { reason })
                }
                applied => applied.map(|changes| {
                    EngineReply::Applied(changes.into_iter().map(changed).collect())
                }),
            }
        }
    };
    reply.unwrap_or_else(|error| match error {
        EngineError::NoCollection(id) => EngineReply::NoCollection(id),
        EngineError::Invalid(_)
        | EngineError::Unsupported(_)
        | EngineError::Unavailable(_)
        | EngineError::Unknown(_)
        | EngineError::Damaged(_) => EngineReply::Failed { reason: error.to_string() },
    })
}

async fn scan(engine: &dyn Engine, scan: Scan) -> Result<EngineReply, EngineError> {
    let wanted = port::Scan {
        after: scan.after,
        through: scan.through,
        points_max: scan.points_max,
        bytes_max: scan.bytes_max,
        bodies: scan.bodies,
        accept: selected(scan.select),
        filter: None,
    };
    let page = engine.scan(scan.collection, wanted).await?;
    let scanned = |found: port::ScannedPoint| {
        let port::ScannedPoint { id, hash, body } = found;
        let point = body.map(|body| StoredPoint { id: id.clone(), hash, body });
        Scanned { id, hash, point }
    };
    let points = page.points.into_iter().map(scanned).collect();
    Ok(EngineReply::Page(Page { points, looked_through: page.looked_through }))
}

fn write(write: Write) -> port::Write {
    match write {
        Write::Upsert(point) => port::Write::Upsert(point),
        Write::Delete(id) => port::Write::Delete(id),
    }
}

fn changed(change: port::Change) -> Changed {
    Changed { old: change.old, new: change.new }
}
