// The metrics of one model, looked up once. Names are an interface: dashboards
// and autoscalers read them. Private to serving.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "domain/generate.h"
#include "domain/model.h"
#include "serving/pool.h"
#include "telemetry/metrics.h"

namespace hearth::serving {

class ModelMetrics {
public:
    ModelMetrics(telemetry::Registry& registry, std::string model);

    // One request ended (or was refused): "completed", "cancelled", or a Code's name.
    void count_outcome(std::string_view outcome);

    void set_state(ModelState state);

    // Requests that wait, by class, and what a normal newcomer would be told; nothing: not known.
    void show_queue(std::array<std::uint32_t, domain::kPriorityCount> const& by_class, std::optional<double> wait_s);

    // What a tenant's request cost: tokens of its prompt that were computed, tokens written.
    void count_tenant(std::string const& tenant, std::uint64_t tokens);

    // What a worker reports. Its counters start at 0 with each worker.
    void report(domain::EngineStats const& stats);
    void forget_worker();

private:
    telemetry::Registry& registry_;
    std::string const model_;
    telemetry::Labels const labels_;
    domain::EngineStats last_;

public:
    telemetry::Gauge& running;
    telemetry::Gauge& waiting;
    telemetry::Counter& prompt_tokens;
    telemetry::Counter& cached_tokens;
    telemetry::Counter& generated_tokens;
    telemetry::Histogram& time_to_first_token;
    telemetry::Histogram& inter_token_latency;
    telemetry::Histogram& duration;
    telemetry::Histogram& queue_time;
    telemetry::Counter& restarts;
    telemetry::Counter& wakes;
    telemetry::Counter& replays;

private:
    telemetry::Gauge& kv_used_;
    telemetry::Gauge& kv_cached_;
    telemetry::Gauge& kv_cells_;
    telemetry::Gauge& rss_;
    telemetry::Counter& cpu_;
    telemetry::Counter& steps_;
    telemetry::Counter& preemptions_;
    telemetry::Counter& drafted_;
    telemetry::Counter& accepted_;
    telemetry::Counter& model_drafted_;
    telemetry::Counter& model_accepted_;
    telemetry::Counter& draft_seconds_;
    telemetry::Counter& step_seconds_;
    telemetry::Counter& evictions_;
    telemetry::Counter& interruptions_;
    telemetry::Counter& shifts_;
    telemetry::Counter& shifted_;
    telemetry::Gauge& prefix_nodes_;
    telemetry::Gauge& swapped_;
    telemetry::Gauge& tier_memory_;
    telemetry::Gauge& tier_disk_;
    telemetry::Counter& tier_memory_tokens_;
    telemetry::Counter& tier_disk_tokens_;
    telemetry::Counter& tier_written_;
    telemetry::Counter& tier_errors_;
};

}  // namespace hearth::serving
