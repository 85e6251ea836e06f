#include "serving/model_metrics.h"

#include <array>
#include <utility>
#include <vector>

namespace hearth::serving {
namespace {

std::vector<std::string> const kModel{"model"};
std::vector<double> const kLatencies{0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1,
                                     0.15,  0.25,   0.5,   0.75, 1,    2.5,  5,    10};
std::vector<double> const kWaits{0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80};
std::vector<double> const kDurations{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 20, 30, 40, 60, 120, 240};

constexpr std::array kStates{ModelState::starting, ModelState::loading, ModelState::ready, ModelState::restarting,
                             ModelState::failed,   ModelState::stopped, ModelState::cold,  ModelState::unloading,
                             ModelState::damaged,  ModelState::parked};

// What was added since the last report; a smaller value is a new worker's.
double growth(std::uint64_t now, std::uint64_t before) {
    return static_cast<double>(now >= before ? now - before : now);
}

}  // namespace

ModelMetrics::ModelMetrics(telemetry::Registry& r, std::string model)
    : registry_(r),
      model_(std::move(model)),
      labels_{model_},
      running(r.gauge("hearth_requests_running", "Requests being computed", kModel, labels_)),
      waiting(r.gauge("hearth_requests_waiting", "Requests admitted and not yet started", kModel, labels_)),
      prompt_tokens(r.counter("hearth_prompt_tokens_total", "Prompt tokens of started requests", kModel, labels_)),
      cached_tokens(r.counter("hearth_cached_tokens_total", "Prompt tokens that were reused instead of computed",
                              kModel, labels_)),
      generated_tokens(r.counter("hearth_generated_tokens_total", "Tokens generated", kModel, labels_)),
      time_to_first_token(r.histogram("hearth_time_to_first_token_seconds",
                                      "Submission to the first piece of the answer", kWaits, kModel, labels_)),
      inter_token_latency(r.histogram("hearth_inter_token_latency_seconds",
                                      "Time per token between two pieces of one choice", kLatencies, kModel, labels_)),
      duration(r.histogram("hearth_request_duration_seconds", "Submission to the end of a request", kDurations, kModel,
                           labels_)),
      queue_time(
          r.histogram("hearth_queue_time_seconds", "Submission to the start of computing", kWaits, kModel, labels_)),
      restarts(r.counter("hearth_worker_restarts_total", "Workers started after one was lost", kModel, labels_)),
      wakes(r.counter("hearth_model_wakes_total", "Times the model was loaded by a worker that was parked", kModel,
                      labels_)),
      replays(r.counter("hearth_requests_replayed_total", "Requests given to another worker because theirs was lost",
                        kModel, labels_)),
      kv_used_(r.gauge("hearth_kv_cells_used", "KV cache cells in use", kModel, labels_)),
      kv_cached_(r.gauge("hearth_kv_cells_cached", "KV cache cells in use by nobody, kept for prompts that begin alike",
                         kModel, labels_)),
      kv_cells_(r.gauge("hearth_kv_cells", "KV cache cells", kModel, labels_)),
      rss_(r.gauge("hearth_worker_rss_bytes", "Resident memory of the worker, 0 if unknown", kModel, labels_)),
      cpu_(r.counter("hearth_worker_cpu_seconds_total", "CPU time of the model's workers", kModel, labels_)),
      steps_(r.counter("hearth_engine_steps_total", "Batches decoded", kModel, labels_)),
      preemptions_(r.counter("hearth_preemptions_total", "Sequences that gave up their slot or their cells to others",
                             kModel, labels_)),
      drafted_(r.counter("hearth_drafted_tokens_total", "Tokens guessed ahead and verified", kModel, labels_)),
      accepted_(r.counter("hearth_accepted_tokens_total", "Guessed tokens that came true", kModel, labels_)),
      model_drafted_(r.counter("hearth_draft_model_drafted_tokens_total",
                               "Of the tokens guessed ahead, those the draft model guessed", kModel, labels_)),
      model_accepted_(r.counter("hearth_draft_model_accepted_tokens_total",
                                "Of the guessed tokens that came true, those the draft model guessed", kModel,
                                labels_)),
      draft_seconds_(r.counter("hearth_draft_model_seconds_total", "Time the draft model computed", kModel, labels_)),
      step_seconds_(r.counter("hearth_engine_step_seconds_total", "Time spent decoding batches", kModel, labels_)),
      evictions_(r.counter("hearth_prefix_evictions_total", "Kept prefixes forgotten to make room", kModel, labels_)),
      interruptions_(r.counter("hearth_engine_steps_interrupted_total",
                               "Steps given up for a request of a better class", kModel, labels_)),
      shifts_(
          r.counter("hearth_context_shifts_total", "Full contexts that made room for more output", kModel, labels_)),
      shifted_(r.counter("hearth_context_shifted_tokens_total", "Tokens those dropped", kModel, labels_)),
      prefix_nodes_(r.gauge("hearth_prefix_nodes", "Nodes of the prefix tree", kModel, labels_)),
      swapped_(r.gauge("hearth_sequences_swapped", "Sequences whose cells are in host memory", kModel, labels_)),
      tier_memory_(r.gauge("hearth_prefix_cache_memory_bytes", "Host memory that holds prefixes", kModel, labels_)),
      tier_disk_(r.gauge("hearth_prefix_cache_disk_bytes", "Files that hold prefixes", kModel, labels_)),
      tier_memory_tokens_(r.counter("hearth_prefix_cache_memory_tokens_total",
                                    "Prompt tokens that came back from host memory", kModel, labels_)),
      tier_disk_tokens_(r.counter("hearth_prefix_cache_disk_tokens_total", "Prompt tokens that came back from disk",
                                  kModel, labels_)),
      tier_written_(
          r.counter("hearth_prefix_cache_written_bytes_total", "Bytes of prefixes written to disk", kModel, labels_)),
      tier_errors_(r.counter("hearth_prefix_cache_errors_total",
                             "Files of the prefix cache that were bad, and operations that failed", kModel, labels_)) {}

void ModelMetrics::show_queue(std::array<std::uint32_t, domain::kPriorityCount> const& by_class,
                              std::optional<double> wait_s) {
    for (std::size_t i = 0; i < by_class.size(); ++i) {
        registry_
            .gauge("hearth_requests_waiting_by_class", "Requests admitted and not yet started, by class",
                   {"model", "class"}, {model_, std::string(to_string(static_cast<domain::Priority>(i)))})
            .set(by_class[i]);
    }
    if (!wait_s) return;
    registry_
        .gauge("hearth_predicted_wait_seconds", "What a new request of class normal is predicted to wait", kModel,
               labels_)
        .set(*wait_s);
}

void ModelMetrics::count_tenant(std::string const& tenant, std::uint64_t tokens) {
    registry_
        .counter("hearth_tenant_tokens_total", "Tokens computed for a tenant: prompts without what was reused, answers",
                 {"model", "tenant"}, {model_, tenant})
        .add(static_cast<double>(tokens));
}

void ModelMetrics::count_outcome(std::string_view outcome) {
    registry_
        .counter("hearth_requests_total", "Requests that ended, by outcome", {"model", "outcome"},
                 {model_, std::string(outcome)})
        .add();
}

void ModelMetrics::set_state(ModelState state) {
    for (auto const each : kStates) {
        registry_
            .gauge("hearth_model_state", "1 for the state the model is in", {"model", "state"},
                   {model_, std::string(to_string(each))})
            .set(each == state ? 1 : 0);
    }
}

void ModelMetrics::report(domain::EngineStats const& stats) {
    kv_used_.set(stats.kv_used);
    kv_cached_.set(stats.kv_cached);
    kv_cells_.set(stats.kv_cells);
    rss_.set(static_cast<double>(stats.rss_bytes));
    cpu_.add(growth(stats.cpu_ms_total, last_.cpu_ms_total) / 1000);
    swapped_.set(stats.swapped);
    prefix_nodes_.set(stats.prefix_nodes);
    evictions_.add(growth(stats.evictions_total, last_.evictions_total));
    interruptions_.add(growth(stats.interruptions_total, last_.interruptions_total));
    shifts_.add(growth(stats.shifts_total, last_.shifts_total));
    shifted_.add(growth(stats.shifted_tokens_total, last_.shifted_tokens_total));
    step_seconds_.add(growth(stats.step_us_total, last_.step_us_total) / 1e6);
    steps_.add(growth(stats.steps_total, last_.steps_total));
    preemptions_.add(growth(stats.preemptions_total, last_.preemptions_total));
    drafted_.add(growth(stats.drafted_total, last_.drafted_total));
    accepted_.add(growth(stats.accepted_total, last_.accepted_total));
    model_drafted_.add(growth(stats.model_drafted_total, last_.model_drafted_total));
    model_accepted_.add(growth(stats.model_accepted_total, last_.model_accepted_total));
    draft_seconds_.add(growth(stats.draft_us_total, last_.draft_us_total) / 1e6);
    tier_memory_.set(static_cast<double>(stats.tier_memory_bytes));
    tier_disk_.set(static_cast<double>(stats.tier_disk_bytes));
    tier_memory_tokens_.add(growth(stats.tier_memory_tokens_total, last_.tier_memory_tokens_total));
    tier_disk_tokens_.add(growth(stats.tier_disk_tokens_total, last_.tier_disk_tokens_total));
    tier_written_.add(growth(stats.tier_written_bytes_total, last_.tier_written_bytes_total));
    tier_errors_.add(growth(stats.tier_errors_total, last_.tier_errors_total));
    last_ = stats;
}

void ModelMetrics::forget_worker() {
    last_ = {};
    kv_used_.set(0);
    kv_cached_.set(0);
    tier_memory_.set(0);
    rss_.set(0);
    swapped_.set(0);
    prefix_nodes_.set(0);
}

}  // namespace hearth::serving
