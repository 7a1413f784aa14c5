//! The contract suite: what the docs of `evented::store` promise, as tests that every store passes.
//!
//! A promise is a function over a [`site`](kit), a place where a store can be opened as often as there are processes. It
//! is listed once, below; each store adds one line at the end.

mod catalogue;
mod claim;
mod extend;
mod kit;
mod outbox;
mod postgres;
mod push;
mod settle;
mod sqlite;
mod transact;
mod wait;

/// Each promise of a room as a test of that name, at a new site.
macro_rules! promises {
    ($site:ty, $room:ident: $($promise:ident)+) => {
        mod $room {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $promise() {
                    let Some(site) = <$site as crate::contract::kit::Opens>::new().await else { return };
                    crate::contract::$room::$promise(&site).await;
                }
            )+
        }
    };
}

macro_rules! queue_promises {
    ($store:ident: $site:ty) => {
        mod $store {
            promises! { $site, push:
                all_of_a_push_is_stored
                all_or_nothing_of_a_push_is_stored
                a_push_that_fails_fails_alone
                a_delivery_that_is_there_already_is_left_as_it_is
                a_leased_delivery_that_is_pushed_again_stays_leased
                a_delivery_pushed_once_is_not_stored_again_after_it_is_settled
                a_delivery_pushed_once_is_remembered_until_it_is_forgotten
                a_forgotten_delivery_is_stored_again
                a_push_planned_from_an_old_catalogue_stores_nothing
                a_push_that_stored_nothing_is_not_remembered
                concurrent_pushes_are_all_stored
                a_delayed_delivery_is_not_claimed_before_its_time
            }
            promises! { $site, claim:
                a_delivery_is_claimed_by_one_claim_alone
                the_policy_and_payload_travel
                only_named_handlers_are_claimed
                a_newer_payload_version_is_left_to_a_newer_worker
                a_claim_takes_no_more_than_wanted
                the_oldest_of_a_handler_comes_first
                a_handler_with_a_backlog_does_not_starve_its_neighbours
                a_delivery_is_due_again_when_its_lease_ends_and_says_that_it_was_lost
                a_lost_delivery_that_was_released_before_it_ran_still_says_that_it_was_lost
                deaths_count_only_while_alone
                next_due_tells_when_to_look_again
                next_due_is_told_while_more_is_due_than_was_wanted
            }
            promises! { $site, extend:
                a_renewed_lease_does_not_end
                an_extend_answers_for_each_lease
                a_lost_lease_stays_lost
                a_lost_lease_stays_lost_beside_the_lease_that_replaced_it
                leases_are_renewed_while_other_writes_wait_for_their_turn
            }
            promises! { $site, settle:
                a_completed_delivery_is_gone_and_counted
                a_retry_is_due_after_its_delay_and_counts_the_attempt
                a_dead_letter_is_kept_with_its_error_and_never_claimed
                a_released_delivery_is_due_at_once_and_costs_no_attempt
                a_late_settlement_changes_nothing
                one_late_settlement_does_not_spoil_its_batch
                a_late_settlement_is_told_beside_the_one_in_time
            }
            promises! { $site, wait:
                no_change_is_missed_between_two_waits
                a_change_during_a_wait_ends_it
                a_change_by_another_process_ends_a_wait
                a_wait_ends_after_most
            }
            promises! { $site, catalogue:
                what_is_recorded_is_read_by_every_process
                recording_the_same_handlers_again_moves_no_generation
                a_changed_handler_moves_the_generation
                a_changed_policy_moves_the_generation
                a_retired_handler_is_gone_and_comes_back_when_recorded
                counts_tell_what_waits_and_what_was_settled
                a_delivery_whose_lease_ended_is_counted_as_waiting
                dead_letters_are_told_newest_first_and_limited
                the_name_is_the_same_for_the_same_store
            }
        }
    };
}

macro_rules! outbox_promises {
    ($store:ident: $site:ty) => {
        mod $store {
            promises! { $site, outbox:
                a_row_whose_deliveries_stay_is_replaced_in_one_turn
                a_row_that_nobody_gets_is_done
                a_row_with_background_deliveries_is_leased_until_it_is_finished
                a_leased_row_is_taken_again_only_when_its_lease_ends
                a_row_whose_lease_was_lost_is_skipped_by_finish
                a_row_that_is_finished_twice_is_replaced_once
                a_row_is_taken_by_one_relay_alone
                a_turn_takes_no_more_rows_than_asked
                a_row_of_an_uncommitted_transaction_is_not_seen
                rows_are_not_relayed_by_an_old_catalogue
            }
            promises! { $site, transact:
                what_a_handler_wrote_and_its_settlement_are_one_commit
                a_handlers_failure_rolls_back_and_keeps_the_lease
                a_lost_lease_commits_nothing
                a_settled_delivery_commits_nothing
                a_handler_that_rolls_back_by_itself_settles_nothing
                a_handler_that_rolls_back_by_itself_and_fails_has_failed
                a_handler_that_commits_by_itself_settles_nothing
                a_handler_that_ends_its_transaction_itself_spoils_no_connection
                a_handler_that_is_dropped_leaves_nothing
                a_handler_that_ends_its_transaction_and_is_dropped_spoils_no_connection
                concurrent_transactions_are_all_committed
            }
        }
    };
}

queue_promises! { queue_in_sqlite: crate::contract::sqlite::Queue }
queue_promises! { queue_in_postgres: crate::contract::postgres::Queue }
queue_promises! { queue_beside_an_sqlite_outbox: crate::contract::sqlite::Outbox }
outbox_promises! { outbox_in_sqlite: crate::contract::sqlite::Outbox }
