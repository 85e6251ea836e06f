// EngineCore: continuous batching without a thread. Engine drives it from its
// own; tests and simulations drive it step by step.
//
// One step():
//   1. ends those that passed a deadline; resumes what was preempted and admits
//      what waits, in order of rank, as slots, ids and cells allow;
//   2. makes room for one more cell per running sequence;
//   3. builds the batch, of requests with one set of adapters, which take turns: one token
//      of every running sequence with credit, then
//      chunks of prompts in order of rank, as the step's target time allows; where
//      mixing saves nothing, the two take turns; every second step is one sequence's
//      alone while there are requests that want that;
//   4. decodes, samples, and appends the events. A decode that hurry() stopped is as
//      if it had not begun; what came is in the next step, without those of a worse class.
//
// Rank: class (which rises with the time inside), then what was preempted, then
// the tenant that got least, then who came first, long prompts standing as if
// they had come later by what they cost. Who finds no room is not passed by
// others, so nobody starves. Slots are taken from a worse class by parking: the
// sequence keeps its cells and is in no step. When cells or ids lack, prefixes
// nobody uses are forgotten, then idle sequences (parked, or without credit),
// then those of a worse class are saved to host memory.
//
// Invariants; check_integrity() looks at the first two, the tests' driver at all:
//   - ledger.used() equals the cells of the tree, and the backend's own count;
//   - no sequence id has two owners; a done or swapped choice has none;
//   - every request ends with exactly one terminal event.
//
// Files: engine_core.cpp (step), engine_core_order.cpp (1), engine_core_plan.cpp (3),
//        engine_core_memory.cpp (1, 2: cells), engine_core_tiers.cpp (prefixes from host memory and disk),
//        engine_core_draft.cpp (3: guesses of a second model), engine_core_shift.cpp,
//        engine_core_tokens.cpp (4: sampling, events, ends), engine_core_report.cpp.
// Requests to embed have a line of their own (embedding_line.h); a batch of it follows each step.
// Threads: one at a time; hurry() from any.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "domain/model.h"
#include "engine/draft_model.h"
#include "engine/embedding_line.h"
#include "engine/engine.h"
#include "engine/engine_history.h"
#include "engine/kv_ledger.h"
#include "engine/request_state.h"
#include "engine/tiers.h"
#include "sched/cost_model.h"
#include "sched/draft_policy.h"
#include "sched/fair_share.h"
#include "sched/interruption.h"

namespace hearth::engine {

class EngineCore {
public:
    // REQUIRES: backend, clock and end_tokens outlive this
    EngineCore(llama::Backend& backend, Options const& options, Clock const& clock, std::span<Token const> end_tokens,
               std::function<void()> on_ready = {});
    ~EngineCore();
    EngineCore(EngineCore const&) = delete;
    EngineCore& operator=(EngineCore const&) = delete;

    // From now on a second model guesses, too. REQUIRES: no request was added;
    // DraftModel::check() passed; `draft` outlives this
    void guess_with(llama::Backend& draft);

    // REQUIRES: the id is not inside
    void add(PreparedRequest prepared);

    // A request of this class is about to be added; the step that runs on another
    // thread ends early if that is worth it, and one that is being planned does not
    // begin. Any thread. Returns whether a running one ends.
    bool hurry(domain::Priority priority);

    // Ends the request at once. Unknown ids are ignored, here and in grant().
    void cancel(RequestId id);
    void cancel_all();
    void grant(RequestId id, std::uint64_t tokens);

    // Saves what ended requests left, for `at_most`, and has what was saved written: the last
    // call, when the engine closes.
    void save_rest(Duration at_most);

    // For tests: waits until the tiers have read and written what they were given.
    void settle_tiers();

    // When the first request passes a limit of its own, if nothing happens before.
    // A step at that time ends it.
    [[nodiscard]] std::optional<Instant> next_deadline() const;

    // Drops every prefix no request uses.
    void forget();

    // A step would get somewhere. False when all that is inside waits for its readers.
    [[nodiscard]] bool has_work() const;

    void step();

    // Events since the last clear_events(), in order.
    [[nodiscard]] std::vector<StepEvent>& events() { return events_; }
    void clear_events() { events_.clear(); }

    [[nodiscard]] domain::EngineStats stats() const;
    [[nodiscard]] domain::EngineReport report() const;
    // What goes on in the tiers also between steps; from any thread.
    void report_tiers(domain::EngineStats& stats) const;
    // From any thread.
    void limit_cache(std::uint64_t bytes) {
        if (tiers_) tiers_->store().limit_memory(bytes);
    }
    [[nodiscard]] std::uint64_t checkpoint_bytes() const { return ledger_.tree().checkpoint_bytes(); }

    // Dies if an invariant is broken; for tests, and for the engine when it goes idle.
    void check_integrity() const;

private:
    static constexpr double kOutputFirstGuess = 64;

    // One sequence's part of a batch.
    struct BatchItem {
        Request* request;
        std::uint32_t choice;
        std::size_t begin;  // its entries in batch_
        std::size_t count;
        bool is_prompt;
        std::uint32_t match = 0;  // of its draft: entries behind the first
        bool by_model = false;  // they are the draft model's
    };

    struct Sequence {
        Request* request;
        Choice* choice;
    };

    // What one set of adapters did in its last step: others' steps change nothing of it.
    struct Turn {
        bool decoded_last = false;  // it had decodes
        bool passed_last = false;  // streams waited for it, so that prompts of a better class went first
        std::size_t next_decode = 0;  // where the turn of those that did not fit in a batch begins
    };

    // Who goes first: the lower one.
    struct Rank {
        std::uint32_t level;  // its class, better the longer it has been inside
        std::uint32_t waiting;  // those that had begun come first
        double account;  // what its tenant got already
        Instant due;  // when it came, and the longer its prompt, the later
        RequestId id;
        auto operator<=>(Rank const&) const = default;
    };
    struct Candidate {
        Rank rank;
        Request* request;
        Choice* choice = nullptr;  // of one whose text is computed
    };

    // What somebody of this level wants to have free.
    struct Room {
        std::uint32_t cells;
        std::uint32_t ids;
        std::uint32_t level;
        std::uint32_t output = 0;  // cells it will probably need later
    };

    // The second model, and what it does in the step being planned.
    struct Drafting {
        Drafting(llama::Backend& backend, llama::Properties const& target, Clock const& clock)
            : model(backend, target.vocabulary, clock), policy(first_guess(target.info)) {}
        DraftModel model;
        sched::DraftPolicy policy;
        double ms = 0;  // it took
        double caught_up_ms = 0;  // of that, for texts it had not seen
        double token_ms = 0;  // what a token of the step takes without it
        std::uint32_t guesses = 0;
        sched::StepShape plain_less{};  // their rows
        std::uint32_t extra = 0;  // of those, what came true
        std::vector<DraftModel::Wish> wishes;
        std::vector<sched::DraftWish> plans;  // one per wish
        std::vector<Sequence> who;  // one per wish
        std::uint64_t drafted_total = 0;
        std::uint64_t accepted_total = 0;
        std::uint64_t us_total = 0;
    };

    // --- engine_core.cpp ---
    [[nodiscard]] Request* find(RequestId id) const;
    [[nodiscard]] bool run_batch();
    [[nodiscard]] Status decode_batch();
    void run_one_by_one(Error const& error);
    void decode_alone(Request& request);
    void advance(BatchItem const& item, std::size_t logits_at);
    void sweep();

    // --- engine_core_order.cpp ---
    [[nodiscard]] std::uint32_t level(Request const& request) const;
    [[nodiscard]] std::uint32_t aged(PreparedRequest const& spec) const;
    [[nodiscard]] double account(PreparedRequest const& spec) const;
    void embed(double ms);
    void take_from_embeddings();
    [[nodiscard]] Rank rank(Request const& request) const;
    void list_candidates();
    void admit_and_resume();
    [[nodiscard]] bool is_promised(Request const& request);
    [[nodiscard]] std::uint32_t slots_taken() const;
    [[nodiscard]] std::uint32_t slots_of(Request const& request) const;
    [[nodiscard]] bool make_slots(std::uint32_t slots, std::uint32_t level);
    [[nodiscard]] Request* pick_parkable(std::uint32_t level) const;
    void expire();

    // --- engine_core_plan.cpp ---
    void list_runnable();
    void list_prompts();
    void list_pinned();
    void plan_pinned();
    void choose_adapters();
    [[nodiscard]] bool let_best_pass();
    [[nodiscard]] std::size_t decodes_max() const;
    void plan();
    void plan_decodes();
    [[nodiscard]] sched::NgramDrafter::Draft draft(Request& request, Choice& choice, std::uint32_t rows);
    [[nodiscard]] double row_ms(Choice const& choice) const;
    [[nodiscard]] std::uint32_t guesses_most(Request const& request, Choice const& choice, std::uint32_t rows) const;
    void plan_prompts(bool streams_wait);
    [[nodiscard]] double decodes_ms() const;
    [[nodiscard]] double crowded_ms() const;
    [[nodiscard]] double target_ms(double decodes_ms) const;
    [[nodiscard]] double drafts_end_ms(double decodes_ms) const;
    [[nodiscard]] std::uint32_t least_tokens(Choice const& choice, std::uint32_t begin) const;
    void push_prompt_chunk(Request& request, Choice const& choice, std::uint32_t tokens);

    // --- engine_core_draft.cpp ---
    [[nodiscard]] std::uint32_t guess_with_model(std::span<Sequence const> planned, std::uint32_t rows);
    [[nodiscard]] sched::DraftCosts draft_costs(Choice const& choice, std::size_t sharing) const;
    [[nodiscard]] double draft_speed() const;
    [[nodiscard]] bool wants_model(Choice const& choice) const;
    [[nodiscard]] bool is_ready_to_draft(Sequence sequence, sched::DraftCosts const& costs, double& ms_left);
    void begin_draft_step(std::size_t planned);
    void take_model_guesses(sched::DraftCosts const& costs);
    void settle_drafts(double ms);
    void drop_draft(Choice& choice);

    // --- engine_core_memory.cpp ---
    [[nodiscard]] bool try_resume(Request& request);
    [[nodiscard]] bool try_admit(Request& request);
    [[nodiscard]] std::optional<sched::PrefixTree::NodeId> find_place(Request const& request,
                                                                      sched::PrefixTree::Key const& key,
                                                                      std::span<Token const> text, Room wanted);
    [[nodiscard]] Status take_place(Choice& choice, sched::PrefixTree::NodeId node);
    void admit(std::unique_ptr<Request> admitted, sched::PrefixTree::NodeId node);
    void restore(Request& request, Choice& choice);
    [[nodiscard]] sched::PrefixTree::Key key_of(PreparedRequest const& spec);
    [[nodiscard]] sched::PrefixTree::Owner owner_of(std::string const& tenant);
    [[nodiscard]] std::span<Token const> reusable(Request const& request) const;
    [[nodiscard]] std::uint32_t expected_output(std::uint32_t tokens_max) const;
    [[nodiscard]] std::uint64_t expected_growth() const;
    [[nodiscard]] bool make_room(Room const& wanted);
    [[nodiscard]] bool evict();
    void forget(sched::PrefixTree::NodeId node);
    [[nodiscard]] bool shares(PreparedRequest const& spec) const { return caches_ && spec.cache_prompt; }
    void apply(sched::PrefixTree::Eviction const& evicted);
    [[nodiscard]] Choice const* pinned_at(sched::PrefixTree::NodeId node) const;
    void free_sequence(llama::SequenceId sequence);
    void extend(Choice& choice, std::span<Token const> tokens);
    void make_room_for_decodes();
    [[nodiscard]] bool lacks_room_ahead() const;
    void make_room_ahead();
    [[nodiscard]] std::uint32_t runnable_live() const;
    [[nodiscard]] bool is_prey(Request const& request, std::uint32_t level) const;
    [[nodiscard]] std::optional<Sequence> pick_victim(std::uint32_t level) const;
    [[nodiscard]] std::optional<Sequence> pick_any_victim() const;
    void swap_out(Sequence victim);
    void detach(Request& request, Choice& choice);
    void release(Request& request, Choice& choice);
    void give_pending_ids(Request& request);

    // --- engine_core_tiers.cpp ---
    [[nodiscard]] std::optional<kvstore::Space> stored_space(PreparedRequest const& spec) const;
    [[nodiscard]] bool must_fetch(Request& request);
    [[nodiscard]] bool waits_for_fetch(Request const& request) const;
    [[nodiscard]] std::size_t fetches() const;
    void take_fetched(Request& request);
    void take_fetched_state(Request& request, std::span<kvstore::Piece const> pieces);
    [[nodiscard]] Status rebuild(Choice const& choice, std::span<kvstore::Piece const> pieces);
    void took(Request& request, kvstore::Piece const& piece);
    void note_progress();

    // --- engine_core_checkpoints.cpp ---
    [[nodiscard]] sched::PrefixTree::Match find_prefix(Request const& request, sched::PrefixTree::Key const& key,
                                                       std::span<Token const> text) const;
    void set_borders(Request& request, std::uint32_t parted);
    [[nodiscard]] static std::uint32_t chunk_within_borders(Request const& request, std::uint32_t chunk);
    void checkpoint_prompt(Request& request);
    bool keep_checkpoint(sched::PrefixTree::NodeId node, std::vector<std::byte> checkpoint);
    [[nodiscard]] bool remember(Choice& choice);
    void keep_all(Choice& choice, std::span<llama::BatchEntry const> rows);
    void keep_some(Request& request, Choice& choice, std::span<llama::BatchEntry const> right);
    void go_back(Choice& choice);
    void cut_by_copy(sched::PrefixTree::Eviction const& evicted);
    void empty_sequence(llama::SequenceId sequence);

    // --- engine_core_shift.cpp ---
    void shift(Request& request, Choice& choice);
    [[nodiscard]] bool try_refill(Request& request, Choice& choice);
    void refill_advanced(Choice& choice, std::uint32_t tokens);

    // --- engine_core_tokens.cpp ---
    void prompt_advanced(Request& request, std::size_t tokens, std::size_t logits_at);
    void begin_generation(Request& request, std::size_t logits_at);
    [[nodiscard]] Status fork(Request& request);
    void decode_advanced(BatchItem const& item, std::size_t logits_at);
    void count_guesses(BatchItem const& item, std::uint32_t guesses, std::uint32_t right);
    void begin_drafting(Request& request, Choice& choice);
    void drop_guesses(Choice& choice);
    [[nodiscard]] bool sample(Request& request, Choice& choice, std::span<float const> logits);
    void flush_text(Choice& choice, std::string& text);
    void finish_choice(Request& request, Choice& choice, domain::FinishReason reason, std::string stop_string);
    void end_cancelled(Request& request);
    void finish(Request& request);
    void fail(Request& request, Error error);
    [[nodiscard]] domain::Timings timings(Request const& request) const;
    void push_event(Request const& request, domain::Event event) {
        events_.push_back({request.spec.id, std::move(event)});
    }

    // --- engine_core_report.cpp ---
    void note_step(double ms);
    [[nodiscard]] std::uint32_t count_swapped() const;
    void report_drafts(domain::EngineReport& out) const;
    void report_sequences(domain::EngineReport& out) const;
    void report_tenants(domain::EngineReport& out) const;

    llama::Backend& backend_;
    Options options_;
    Clock const& clock_;
    std::span<Token const> end_tokens_;

    std::deque<std::unique_ptr<Request>> waiting_;
    std::vector<std::unique_ptr<Request>> active_;  // by age
    std::unordered_map<RequestId, Request*> by_id_;
    std::uint64_t next_age_ = 0;
    // Keeps prefixes; else each request has a space of its own instead.
    bool caches_;
    bool checkpoints_;  // it can go back to checkpoints only
    // Who shares prefixes: tenant, salt and set of adapters. Numbers are never used twice.
    std::map<std::tuple<std::string, std::string, std::uint32_t>, sched::PrefixTree::Space> spaces_;
    sched::PrefixTree::Space next_space_ = 0;
    std::map<std::string, sched::PrefixTree::Owner> owners_;  // by tenant; with all its salts one share
    sched::PrefixTree::Owner next_owner_ = sched::PrefixTree::kEverybody;
    std::unique_ptr<Tiers> tiers_;  // null: what leaves the cache is gone
    bool backend_full_ = false;  // it refused cells the ledger thought free: nothing enters until something ends
    std::size_t next_pinned_ = 0;  // whose turn it is of those that are computed alone
    bool pinned_last_ = false;  // the last step was one's alone
    KvLedger ledger_;
    sched::PrefixTree::NodeId lost_ = sched::PrefixTree::kNone;  // a pinned node whose cells could not be kept
    llama::SequenceId spare_ = kNoSequence;  // with checkpoints: an empty one, to copy what cannot be cut
    std::size_t prompt_tokens_;
    std::uint32_t pinned_chunk_;
    sched::CostModel cost_;
    sched::FairShare share_;
    EmbeddingLine embeddings_;
    std::unique_ptr<Drafting> drafting_;  // null: no second model
    std::mutex running_mutex_;
    sched::Interruption running_;  // under running_mutex_; written by the engine's thread
    std::uint32_t hurried_ =
        domain::kPriorityCount;  // under running_mutex_: the best class that came while no step ran
    bool no_room_ahead_ = false;  // what lacks is in use, as far as is known since the last step
    bool held_up_ = false;  // the last planned step did not begin because of it
    std::atomic<bool> stop_{false};  // the backend heeds it
    std::uint32_t adapters_ = 0;  // the set whose turn it is,
    Instant turn_began_{};  // since then
    std::vector<Turn> turns_;  // by set of adapters
    double output_mean_ = kOutputFirstGuess;  // tokens of the choices that ended of late
    Instant now_;  // read when a step begins and after every decode

    // Rebuilt by every step; members to keep their memory.
    std::vector<llama::BatchEntry> batch_;
    std::vector<BatchItem> items_;
    std::vector<Sequence> runnable_;
    std::vector<Candidate> candidates_;
    struct {
        double tokens;
        double ms;
    } expected_{};  // of the sequences that decode in the step being planned
    std::uint32_t mixed_tokens_ = 0;  // of prompts, in the last step with prompts and sequences that decode
    // Of other sets of adapters than the step being planned has:
    bool others_stream_ = false;  // sequences that could emit a token
    bool others_wait_ = false;  // anything
    double target_ms_ = 0;  // of the step being planned, beside sequences that decode
    double drafts_end_ms_ = 0;  // drafts are taken as long as the step's decodes take no longer than this
    std::vector<Candidate> prompts_;
    std::vector<Sequence> pinned_;
    sched::StepShape shape_;
    std::vector<llama::BatchEntry> alone_;  // one request's part of a batch that failed
    SamplerScratch scratch_;
    std::string piece_;
    std::string passed_;
    std::vector<StepEvent> events_;

    std::uint64_t steps_total_ = 0;
    std::uint64_t prompt_tokens_total_ = 0;
    std::uint64_t generated_tokens_total_ = 0;
    std::uint64_t preemptions_total_ = 0;
    std::uint64_t interruptions_total_ = 0;
    std::uint64_t shifts_total_ = 0;
    std::uint64_t shifted_tokens_total_ = 0;
    std::uint64_t drafted_total_ = 0;
    std::uint64_t accepted_total_ = 0;
    EngineHistory history_;
};

}  // namespace hearth::engine
