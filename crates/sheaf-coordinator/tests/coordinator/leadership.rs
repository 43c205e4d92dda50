//! The store and the term: what is durable, what is unknown, who may speak.

use std::sync::Arc;

use crate::world::{StoreMood, World, options, shard, url};
use sheaf_coordinator::{
    Ask, AskRefusal, Config, Event, PollAnswer, Reply, StoreOutcome, StoreRead,
};
use sheaf_protocol::DirectiveRefusal;
use sheaf_types::{Revision, Term};

#[test]
fn nothing_is_sent_or_answered_before_the_term_is_durable() {
    let mut world = World::of_shards(2);
    world.restart();
    world.mood = StoreMood::Hangs;
    world.sent.clear();
    let token = world.ask_later(Ask::Pause { transition: Default::default() }, None, None);
    world.advance(1_000);
    assert!(world.sent.is_empty() && !world.answers.contains_key(&token));
    assert_eq!(world.hanging.len(), 1);
    world.mood = StoreMood::Works;
    world.restart();
    world.advance(10);
    assert!(!world.sent.is_empty());
    assert!(world.sent.iter().all(|out| out.directive.term == Term(2)));
}

#[test]
fn each_restart_raises_the_term_and_keeps_the_map() {
    let mut world = World::of_shards(2);
    let (term, map) = (world.record().term, Arc::clone(world.core.map()));
    world.restart();
    world.advance(10);
    assert_eq!(world.record().term, term.next());
    assert_eq!(world.core.map(), &map);
    assert_eq!(world.published.last(), Some(&map));
}

#[test]
fn a_write_of_unknown_outcome_that_is_there_is_success_and_one_that_is_not_is_repeated() {
    for mood in [StoreMood::StoresSilently, StoreMood::ForgetsSilently] {
        let mut world = World::of_shards(2);
        world.mood = mood;
        let ask = Ask::DropCollection { name: "none".to_owned() };
        assert!(world.ask(ask).is_ok(), "what changes nothing needs no store");
        let token = world.ask_later(grow_by(3), None, None);
        world.advance(5);
        world.mood = StoreMood::Works;
        world.advance(1_000);
        assert!(matches!(world.answers.get(&token), Some(Ok(Reply::Accepted { .. }))), "{mood:?}");
        world.finish();
        assert_eq!(world.map_ids(), [1, 2, 3]);
        assert!(!world.deposed);
    }
}

fn grow_by(n: u64) -> Ask {
    let shards = vec![sheaf_coordinator::NewShard::at(&url(n))];
    Ask::Grow { shards, options: options() }
}

#[test]
fn a_commit_of_unknown_outcome_is_neither_success_nor_failure_until_the_store_says() {
    for mood in [StoreMood::StoresSilently, StoreMood::ForgetsSilently] {
        let mut world = World::of_shards(2);
        world.grow(3);
        world.advance_to("fence");
        world.mood = mood;
        let before = world.version();
        let published = world.published.len();
        for _ in 0..20 {
            if world.phase() == "fence" {
                assert_eq!(world.version(), before);
                assert_eq!(world.published.len(), published);
            }
            world.step();
        }
        world.mood = StoreMood::Works;
        world.finish();
        assert_eq!(world.version(), before + 1);
    }
}

#[test]
fn a_repeated_write_that_is_refused_because_the_first_one_came_late_is_success() {
    let mut world = World::of_shards(2);
    world.mood = StoreMood::Hangs;
    let token = world.ask_later(grow_by(3), None, None);
    while world.hanging.is_empty() {
        world.step();
    }
    let first = world.hanging.remove(0);
    // Unknown, not there yet, so it is repeated; then the first one arrives.
    world.handle(Event::Stored { write: first.number, outcome: StoreOutcome::Unknown });
    while world.hanging.is_empty() {
        world.step();
    }
    world.stored = Arc::clone(&first.record);
    let second = world.hanging.remove(0);
    assert_ne!(first.number, second.number);
    world.handle(Event::Stored { write: second.number, outcome: StoreOutcome::Refused });
    world.mood = StoreMood::Works;
    world.advance(10);
    assert!(matches!(world.answers.get(&token), Some(Ok(Reply::Accepted { .. }))));
    assert!(!world.deposed);
}

#[test]
fn a_refused_write_deposes_and_everybody_is_told_that_nothing_was_decided() {
    let mut world = World::of_shards(2);
    world.mood = StoreMood::Hangs;
    let first = world.ask_later(grow_by(3), None, None);
    while world.hanging.is_empty() {
        world.step();
    }
    let second = world.ask_later(Ask::Promote { shard: shard(1) }, None, None);
    world.tick();
    let write = world.hanging.remove(0);
    world.handle(Event::Stored { write: write.number, outcome: StoreOutcome::Refused });
    for token in [first, second] {
        assert_eq!(world.answers.get(&token), Some(&Err(AskRefusal::Deposed)));
    }
    assert!(world.deposed && world.core.is_deposed());
    world.sent.clear();
    let later = world.ask(Ask::Promote { shard: shard(1) });
    assert_eq!(later, Err(AskRefusal::Deposed));
    world.advance(5_000);
    assert!(world.sent.is_empty(), "a deposed coordinator says nothing");
}

#[test]
fn who_is_deposed_while_a_write_was_in_doubt_says_that_the_outcome_is_unknown() {
    let mut world = World::of_shards(2);
    world.mood = StoreMood::Hangs;
    let token = world.ask_later(grow_by(3), None, None);
    while world.hanging.is_empty() {
        world.step();
    }
    let write = world.hanging.remove(0);
    let mut theirs = (*write.record).clone();
    theirs.term = theirs.term.next();
    theirs.author = 77;
    world.stored = Arc::new(theirs);
    world.handle(Event::Stored { write: write.number, outcome: StoreOutcome::Unknown });
    world.tick();
    assert_eq!(world.answers.get(&token), Some(&Err(AskRefusal::OutcomeUnknown)));
    assert!(world.deposed);
}

#[test]
fn two_coordinators_that_raise_the_same_term_are_told_apart() {
    let mut world = World::of_shards(2);
    world.mood = StoreMood::Hangs;
    world.restart();
    world.tick();
    let mine = world.hanging.remove(0);
    // The other one's write of the same term and revision won.
    let mut theirs = (*mine.record).clone();
    theirs.author = 77;
    world.stored = Arc::new(theirs);
    world.handle(Event::Stored { write: mine.number, outcome: StoreOutcome::Unknown });
    world.tick();
    assert!(world.deposed, "the record that is there is the other's");
}

#[test]
fn a_gate_that_speaks_of_a_higher_term_makes_the_coordinator_look_and_step_down() {
    let mut world = World::of_shards(2);
    let refusal = DirectiveRefusal::Deposed { highest: Term(9) };
    let (shard, poll) = world.sent.last().map(|out| (out.shard, out.poll)).unwrap();
    let said = Event::Reported { shard, poll, answer: PollAnswer::Refused(refusal) };
    world.handle(said.clone());
    world.advance(10);
    assert!(!world.deposed, "the store still holds what this coordinator wrote");
    let mut theirs = world.record().clone();
    theirs.term = Term(9);
    world.stored = Arc::new(theirs);
    world.advance(2_000);
    let (shard, poll) = world.sent.last().map(|out| (out.shard, out.poll)).unwrap();
    let answer = PollAnswer::Refused(DirectiveRefusal::Deposed { highest: Term(9) });
    world.handle(Event::Reported { shard, poll, answer });
    world.tick();
    assert!(world.deposed);
}

#[test]
fn a_store_that_cannot_be_read_is_asked_again() {
    let mut world = World::of_shards(2);
    world.mood = StoreMood::Hangs;
    let token = world.ask_later(grow_by(3), None, None);
    while world.hanging.is_empty() {
        world.step();
    }
    let write = world.hanging.remove(0);
    let effects = world
        .core
        .handle(world.now, Event::Stored { write: write.number, outcome: StoreOutcome::Unknown });
    assert!(effects.load);
    let effects = world.core.handle(world.now, Event::Loaded { read: StoreRead::Failed });
    let (at, _) = effects.wake.unwrap();
    world.now = at;
    world.stored = write.record;
    world.mood = StoreMood::Works;
    world.advance(10);
    assert!(world.answers.contains_key(&token));
}

#[test]
fn a_coordinator_restarted_at_any_step_goes_on_to_the_same_end() {
    // Counts the steps of a grow and a drain, then restarts after each of them in turn.
    let run = |restart_at: Option<usize>| {
        let mut world = World::of_shards(2);
        world.grow(3);
        world.accepted(Ask::Drain { shard: shard(1), options: options() });
        let mut steps = 0;
        while world.record().transition.is_some() || !world.record().queue.is_empty() {
            if restart_at == Some(steps) {
                world.restart();
            }
            steps += 1;
            world.step();
            assert!(steps < 20_000, "{:#?}", world.core.running());
        }
        assert_eq!(world.map_ids(), [2, 3], "restarted at {restart_at:?}");
        assert_eq!(world.record().ended.len(), 2);
        world.advance(3_000);
        assert!(world.record().retiring.is_empty(), "restarted at {restart_at:?}");
        steps
    };
    let steps = run(None);
    for at in 0..steps {
        run(Some(at));
    }
}

#[test]
fn directives_keep_their_revision_while_their_content_stays() {
    let mut world = World::of_shards(2);
    world.advance(100);
    let told = world.sent.last().unwrap().directive.revision;
    world.sent.clear();
    let name = || Ask::Grow { shards: vec![], options: options() };
    assert_eq!(world.ask(name()), Err(AskRefusal::NoShards));
    world.gate(5).alive = false;
    world.ask(Ask::Remove { shard: shard(1), accept_data_loss: false }).unwrap_err();
    world.advance(5_000);
    assert!(world.sent.iter().all(|out| out.directive.revision == told));
    assert!(
        world.sent.len() < 20,
        "a gate without news is asked once a second: {}",
        world.sent.len()
    );
    assert!(told > Revision(0));
}

#[test]
fn a_late_report_of_an_earlier_incarnation_changes_nothing() {
    let mut world = World::of_shards(2);
    world.grow(3);
    world.advance_to("copy");
    let old = world.gate(1).report();
    world.gate(1).restart();
    world.advance(5);
    let incarnation =
        |world: &World| world.core.status().shards[0].report.map(|report| report.incarnation.0);
    assert_eq!(incarnation(&world), Some(2));
    let answer = PollAnswer::Report(Box::new(old));
    world.handle(Event::Reported { shard: shard(1), poll: 1, answer });
    assert_eq!(incarnation(&world), Some(2));
}

#[test]
fn without_a_configuration_a_coordinator_is_inert_but_alive() {
    let mut world = World::unborn(1, Config::default());
    world.advance(10_000);
    assert!(world.sent.is_empty());
    assert_eq!(world.core.health().len(), 0);
    assert_eq!(world.version(), 1);
}

#[test]
fn a_coordinator_whose_store_was_set_back_decides_nothing() {
    let mut world = World::of_shards(2);
    let backup = Arc::clone(&world.stored);
    world.grow(3);
    world.finish();
    world.stored = backup;
    world.restart();
    world.advance(100);
    let before = (world.version(), world.record().transition.clone());
    let weight = "1".parse().unwrap();
    for ask in [
        Ask::Reweight { shard: shard(1), weight, options: options() },
        Ask::DropCollection { name: "words".into() },
    ] {
        let refused = world.ask(ask);
        assert!(matches!(refused, Err(AskRefusal::RecordOutdated { .. })), "{refused:?}");
    }
    world.advance(10_000);
    assert_eq!((world.version(), world.record().transition.clone()), before);
}

/// Found by the swarm, seed 2078200084779: the budget of the fence was over, and nothing may be decided.
#[test]
fn a_coordinator_that_may_decide_nothing_waits_and_does_not_spin() {
    let mut world = World::of_shards(2);
    world.grow(3);
    world.advance_to("fence");
    let (shard, poll) = world.sent.last().map(|out| (out.shard, out.poll)).unwrap();
    let answer = PollAnswer::Refused(DirectiveRefusal::Deposed { highest: Term(9) });
    let effects = world.core.handle(world.now, Event::Reported { shard, poll, answer });
    assert!(effects.load);
    drop(world.core.handle(world.now, Event::Loaded { read: StoreRead::Failed }));
    for _ in 0..3 {
        world.now = world.now.plus_ms(60_000);
        let effects = world.core.handle(world.now, Event::Tick);
        let spins = effects.wake.is_some_and(|(at, _)| at <= world.now);
        assert!(!spins, "I16 never-spins: {:?} at {}", effects.wake, world.now);
    }
}
