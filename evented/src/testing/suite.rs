//! The suite: every promise by its room, with the guarantee that it shows. The functions of the data and the tests of the
//! macros are made of these two lists, so that neither has a promise that the other lacks.

use super::{OutboxSite, Promise, Site};

/// The promises of a queue store, in the order of the boundary.
#[must_use]
pub fn queue_promises<S: Site>() -> Vec<Promise<S>> {
    crate::__queue_promises! { as_data }
}

/// The promises of an outbox store, beside those of a queue store.
#[must_use]
pub fn outbox_promises<S: OutboxSite>() -> Vec<Promise<S>> {
    crate::__outbox_promises! { as_data }
}

/// What a test of the macros does. One whose site cannot be made checks nothing: it says so, and fails where the environment
/// asks that nothing is skipped.
#[doc(hidden)]
pub fn hold<S: Site>(promises: &[Promise<S>], about: &str, name: &str) {
    let promise = promises.iter().find(|promise| promise.about == about && promise.name == name);
    let promise = promise.expect("the tests are made of the list that the promises are made of");
    if !promise.test() {
        let required = std::env::var_os("EVENTED_REQUIRE_SERVERS").is_some_and(|value| !value.is_empty());
        assert!(!required, "not checked, since its site could not be made: {}, {promise}", S::NAME);
        println!("skipped: {}, {promise}: its site could not be made", S::NAME);
    }
}

/// The contract suite over a store of your own: a module with a test for each promise of a queue store, named by the
/// promise. Give it the module's name and a [`testing::Site`](crate::testing::Site); see [`testing`](crate::testing).
#[macro_export]
macro_rules! contract_suite {
    ($suite:ident: $site:ty) => {
        $crate::__queue_promises! { as_tests $suite $site, queue_promises }
    };
}

/// The same for what an outbox store promises beside that, over a
/// [`testing::OutboxSite`](crate::testing::OutboxSite).
#[macro_export]
macro_rules! outbox_contract_suite {
    ($suite:ident: $site:ty) => {
        $crate::__outbox_promises! { as_tests $suite $site, outbox_promises }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __promises {
    (as_data => $($room:ident { $($promise:ident: $guarantee:ident)+ })+) => {
        vec![$($(
            Promise {
                name: stringify!($promise),
                about: stringify!($room),
                guarantee: super::Guarantee::$guarantee,
                check: |site| Box::pin(super::$room::$promise(site)),
            },
        )+)+]
    };
    // The site is named where the caller's names are in scope, and no room's name is.
    (as_tests $suite:ident $site:ty, $promises:ident => $($room:ident { $($promise:ident: $guarantee:ident)+ })+) => {
        #[cfg(test)]
        mod $suite {
            mod site {
                #[allow(unused_imports, reason = "a site may be named by its whole path")]
                use super::super::*;
                pub(super) type Site = $site;
            }
            $(
                mod $room {
                    $(
                        #[test]
                        fn $promise() {
                            let promises = $crate::testing::$promises::<super::site::Site>();
                            $crate::testing::hold(&promises, stringify!($room), stringify!($promise));
                        }
                    )+
                }
            )+
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __queue_promises {
    ($($then:tt)+) => {
        $crate::__promises! { $($then)+ =>
            push {
                all_of_a_push_is_stored: AllOrNothing
                all_or_nothing_of_a_push_is_stored: AllOrNothing
                a_push_that_fails_fails_alone: AllOrNothing
                a_delivery_that_is_there_already_is_left_as_it_is: Once
                a_push_answers_which_deliveries_it_did_not_store: Once
                a_leased_delivery_that_is_pushed_again_stays_leased: Once
                a_delivery_pushed_once_is_not_stored_again_after_it_is_settled: Once
                what_is_finished_is_remembered_for_a_while: Once
                a_push_after_its_end_stores_nothing: Once
                the_clock_goes_on_as_time_does: Delay
                a_push_planned_from_an_old_catalogue_stores_nothing: EveryHandler
                a_push_that_stored_nothing_is_not_remembered: Once
                concurrent_pushes_are_all_stored: AllOrNothing
                a_delayed_delivery_is_not_claimed_before_its_time: Delay
            }
            claim {
                a_delivery_is_claimed_by_one_claim_alone: OneWorker
                the_policy_and_payload_travel: EveryHandler
                only_named_handlers_are_claimed: Unknown
                a_newer_payload_version_is_left_to_a_newer_worker: Unknown
                a_claim_takes_no_more_than_wanted: Fair
                the_oldest_of_a_handler_comes_first: Fair
                a_handler_with_a_backlog_does_not_starve_its_neighbours: Fair
                a_delivery_is_due_again_when_its_lease_ends: RunsAgain
                next_due_tells_when_to_look_again: Delay
                next_due_is_told_while_more_is_due_than_was_wanted: Delay
            }
            exchange {
                an_exchange_settles_and_claims: OneWorker
                an_exchange_whose_settlement_is_late_claims_all_the_same: Late
                a_claim_never_takes_what_its_exchange_settles: OneWorker
                an_exchange_of_nothing_does_nothing: OneWorker
                a_claim_takes_no_more_of_a_handler_than_it_wants: Fair
                a_higher_priority_is_claimed_first: Priority
                a_lower_priority_gets_what_a_higher_one_leaves: Priority
                within_one_priority_a_claim_takes_evenly: Fair
                a_backlog_of_20_000_does_not_hold_up_a_first_delivery: Fair
            }
            extend {
                a_renewed_lease_does_not_end: OneWorker
                an_extend_answers_for_each_lease: OneWorker
                a_lost_lease_stays_lost: Late
                a_lost_lease_stays_lost_beside_the_lease_that_replaced_it: Late
                leases_are_renewed_while_other_writes_wait_for_their_turn: OneWorker
            }
            suspects {
                what_a_living_session_held_is_due_again: Suspects
                what_a_dead_session_held_waits_apart: Suspects
                a_claim_leaves_ended_leases_where_it_is_told_to: Suspects
                an_ended_session_has_not_died: Suspects
                a_session_that_comes_back_takes_its_deaths_back: Suspects
                a_settled_attempt_ends_suspicion: Suspects
                a_released_suspect_is_the_suspect_that_it_was: Suspects
                after_a_second_death_it_is_tried_singly: Suspects
                one_is_tried_when_all_else_that_died_with_it_is_settled: Suspects
                a_death_while_it_is_tried_is_a_charge: Suspects
                a_death_is_no_charge_where_another_of_it_died_again: Suspects
                a_suspect_holds_its_order_key_and_no_other: Suspects
                suspects_of_a_paused_queue_or_a_newer_version_wait: Suspects
            }
            settle {
                a_completed_delivery_is_gone_and_counted: Told
                a_retry_is_due_after_its_delay_and_counts_the_attempt: Retry
                a_delivery_is_the_same_in_every_attempt: Retry
                failed_attempts_are_counted_across_releases_and_lost_leases: Retry
                a_dead_letter_is_kept_with_its_error_and_never_claimed: DeadLetters
                a_released_delivery_is_due_at_once_and_costs_no_attempt: RunsAgain
                a_late_settlement_changes_nothing: Late
                one_late_settlement_does_not_spoil_its_batch: Late
                a_late_settlement_is_told_beside_the_one_in_time: Late
            }
            order {
                deliveries_of_a_key_are_claimed_one_after_the_other: Order
                what_waits_for_its_turn_is_not_due: Order
                a_retry_holds_its_key: Order
                a_delayed_head_holds_its_key: Order
                a_delivery_whose_turn_comes_waits_for_its_own_time: Order
                a_dead_letter_releases_its_key: Order
                a_released_delivery_keeps_its_place: Order
                a_lost_lease_keeps_its_place: Order
                a_delivery_of_a_key_that_is_pushed_again_keeps_its_place: Order
                different_keys_run_side_by_side: Order
                a_requeued_dead_letter_goes_behind_those_that_wait: Order
                order_holds_while_processes_push_and_settle: Order
                no_delivery_is_stranded_between_a_push_and_a_settlement_of_its_key: Order
            }
            unique {
                a_second_delivery_of_a_key_is_not_stored_within_its_time: Unique
                a_delivery_of_a_key_is_stored_after_its_time: Unique
                a_delivery_pushed_again_is_not_its_own_duplicate: Unique
                a_repeated_push_does_not_extend_the_time_of_its_key: Unique
                a_delivery_that_is_done_and_pushed_again_does_not_extend_the_time_of_its_key: Unique
                handlers_do_not_share_unique_keys: Unique
                the_first_of_one_push_stands_for_its_key: Unique
                a_unique_key_outlives_its_first_delivery: Unique
                a_push_that_fails_takes_no_unique_key: Unique
                one_of_concurrent_deliveries_of_a_key_is_stored: Unique
            }
            wait {
                no_change_is_missed_between_two_waits: Woken
                a_change_during_a_wait_ends_it: Woken
                a_change_by_another_process_ends_a_wait: Woken
                a_wait_ends_after_most: Woken
            }
            catalogue {
                what_is_recorded_is_read_by_every_process: EveryHandler
                recording_the_same_handlers_again_moves_no_generation: EveryHandler
                a_changed_handler_moves_the_generation: EveryHandler
                a_changed_policy_moves_the_generation: EveryHandler
                unique_and_order_keys_are_read_by_every_process: EveryHandler
                a_changed_key_moves_the_generation: EveryHandler
                a_retired_handler_is_gone_and_comes_back_when_recorded: EveryHandler
                what_is_recorded_of_an_old_catalogue_changes_nothing: EveryHandler
                what_is_retired_of_an_old_catalogue_stays: EveryHandler
                a_retired_handler_does_not_come_back_by_a_process_that_began_before: EveryHandler
                a_claim_tells_the_generation: EveryHandler
                the_name_is_the_same_for_the_same_store: Told
                the_identity_is_the_same_for_every_process: Told
            }
            admin {
                counts_tell_what_waits_and_what_was_settled: Told
                a_delivery_whose_lease_ended_is_counted_as_waiting: Told
                stats_tell_the_queue_of_each_handler: Told
                stats_tell_for_how_long_a_delivery_is_due: Told
                dead_letters_are_told_newest_first_and_limited: DeadLetters
                dead_letters_of_one_handler_are_told: DeadLetters
                a_requeued_dead_letter_is_due_at_once_with_all_its_attempts: DeadLetters
                all_dead_letters_of_a_handler_are_requeued: DeadLetters
                a_requeued_dead_letter_leaves_the_delivery_that_is_there: Once
                one_dead_letter_is_discarded: DeadLetters
                all_dead_letters_of_a_handler_are_discarded: DeadLetters
                what_is_no_dead_letter_is_neither_requeued_nor_discarded: DeadLetters
                a_requeue_ends_a_wait: Woken
                what_dies_after_a_requeue_or_a_discard_began_stays: DeadLetters
                many_dead_letters_are_requeued_and_discarded_in_steps: DeadLetters
            }
            pause {
                a_paused_queue_is_not_claimed_in_any_process: Pause
                a_resumed_queue_is_claimed_again: Pause
                resuming_ends_a_wait: Pause
                a_queue_stays_paused_while_no_process_is_there: Pause
                other_queues_go_on_while_one_is_paused: Pause
                what_runs_when_its_queue_is_paused_goes_on: Pause
                the_paused_queues_are_told: Pause
            }
            sweep {
                a_sweep_deletes_dead_letters_beyond_their_age: DeadLetters
                a_sweep_keeps_the_newest_dead_letters: DeadLetters
                a_sweep_takes_nothing_before_its_time: Once
                a_unique_key_whose_time_is_over_may_be_swept: Unique
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __outbox_promises {
    ($($then:tt)+) => {
        $crate::__promises! { $($then)+ =>
            outbox {
                a_row_whose_deliveries_stay_is_replaced_in_one_turn: Outbox
                a_row_that_nobody_gets_is_done: Outbox
                a_row_with_background_deliveries_is_leased_until_it_is_finished: Outbox
                a_leased_row_is_taken_again_only_when_its_lease_ends: Outbox
                a_row_whose_lease_was_lost_is_skipped_by_finish: Outbox
                a_row_that_is_finished_twice_is_finished_once: Once
                what_stays_of_a_row_is_stored_with_its_lease: Outbox
                a_row_that_is_left_is_taken_by_a_relay_that_leases: Outbox
                a_turn_takes_no_more_bytes_than_asked: Outbox
                a_row_that_is_put_back_is_due_after_its_delay: Outbox
                a_row_is_taken_by_one_relay_alone: Outbox
                a_turn_takes_no_more_rows_than_asked: Outbox
                what_a_turn_stores_is_claimed_with_it: Outbox
                a_turn_claims_as_an_exchange_does: Outbox
                a_row_of_an_uncommitted_transaction_is_not_seen: Outbox
                rows_are_not_relayed_by_an_old_catalogue: EveryHandler
            }
            taken {
                a_row_keeps_the_target_of_its_first_turn: Outbox
                a_row_keeps_the_handlers_of_its_first_turn: Once
                an_outbox_that_becomes_its_own_queue_keeps_what_was_on_its_way: Order
                an_outbox_remembers_its_queue: Outbox
                what_goes_elsewhere_waits_for_rows_of_its_own_key_alone: Order
                two_relays_look_at_a_row_a_few_times_at_most: Order
                the_deliveries_of_rows_keep_the_order_of_their_keys: Order
                a_row_of_an_order_key_waits_for_those_before_it_that_another_relay_has: Order
                rows_of_an_order_key_go_on_in_order_after_the_death_of_a_relay: Order
            }
            transact {
                what_a_handler_wrote_and_its_settlement_are_one_commit: OneCommit
                a_committed_transaction_lets_the_next_of_its_order_key_go: Order
                what_is_pushed_while_a_transaction_runs_goes_on_after_it: Order
                a_handlers_failure_rolls_back_and_keeps_the_lease: OneCommit
                a_lost_lease_commits_nothing: OneCommit
                a_lease_that_is_lost_while_a_transaction_runs_commits_nothing: OneCommit
                a_settled_delivery_commits_nothing: OneCommit
                a_handler_that_rolls_back_by_itself_settles_nothing: OneCommit
                a_handler_that_rolls_back_by_itself_and_fails_has_failed: OneCommit
                a_handler_that_commits_by_itself_settles_nothing: OneCommit
                a_handler_that_ends_its_transaction_itself_spoils_no_connection: OneCommit
                a_handler_that_is_dropped_leaves_nothing: OneCommit
                a_handler_that_ends_its_transaction_and_is_dropped_spoils_no_connection: OneCommit
                concurrent_transactions_are_all_committed: OneCommit
            }
            inbox {
                a_delivery_that_ran_to_its_end_is_not_run_again: OneCommit
                an_attempt_that_fails_is_not_remembered: OneCommit
                an_attempt_that_is_dropped_is_not_remembered: OneCommit
                of_concurrent_runs_of_one_delivery_one_writes: OneCommit
                what_is_settled_elsewhere_is_remembered_for_a_while: OneCommit
            }
        }
    };
}
