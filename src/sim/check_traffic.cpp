#include "sim/check_traffic.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "traffic/random.h"

namespace hearth::sim {
namespace {

using traffic::Random;

constexpr std::uint32_t kContext = 60;
constexpr std::uint32_t kVocabulary = 64;

std::uint32_t between(Random& random, std::uint32_t low, std::uint32_t high) {
    return low + static_cast<std::uint32_t>(random.below(high - low + 1));
}

SimModel random_model(Random& random) {
    SimModel model;
    model.seed = random.next();
    model.vocabulary = kVocabulary;
    model.context_request = kContext;
    model.kv_cells = random.below(3) == 0 ? between(random, 250, 600) : between(random, 50, 250);
    model.sequences_max = between(random, 2, 9);
    model.sequences_kept = between(random, 0, 12);
    model.batch_max = between(random, 2, 80);
    model.end_one_in = random.below(2) == 0 ? 0 : 20;
    model.recurrent = random.below(4) == 0;
    if (random.below(3) == 0) model.determinism = domain::Determinism::on_request;
    model.costs.noise = random.unit() / 2;
    if (random.below(3) == 0)
        model.faults = {.decode_one_in = 150, .save_one_in = 40, .restore_one_in = 40, .copy_one_in = 40};
    return model;
}

// Its own numbers, so that the rest of a seed is the same with and without.
std::optional<SimModel> random_draft(std::uint64_t seed, SimModel const& model) {
    Random random(seed ^ 0xD2AF7ULL);
    if (model.recurrent || random.below(2) == 0) return std::nullopt;
    SimModel draft = model;
    draft.seed = random.next();
    draft.kv_cells = between(random, 20, 400);
    draft.context_request = random.below(4) == 0 ? between(random, 10, kContext) : kContext;
    draft.sequences_max = random.below(2) == 0 ? model.sequences_max : between(random, 1, model.sequences_max);
    draft.sequences_kept = between(random, 0, 4);
    draft.batch_max = between(random, 2, 80);
    draft.errs_one_in = random.below(3) == 0 ? 0 : between(random, 1, 6);
    double const part = random.below(4) == 0 ? 1 : 0.05 + 0.2 * random.unit();  // of what the model takes
    draft.parameters = static_cast<std::uint64_t>(part * static_cast<double>(model.parameters));
    draft.costs.step_ms *= part;
    draft.costs.row_ms *= part;
    draft.costs.prompt_token_ms *= part;
    draft.faults = {};
    if (random.below(4) == 0) draft.faults.decode_one_in = between(random, 2, 40);
    return draft;
}

engine::Options random_options(Random& random) {
    engine::Options options;
    options.prefix_cache = random.below(4) != 0;
    options.credit = between(random, 1, 30);
    options.prompt_tokens = between(random, 1, 64);
    options.mixed_tokens_max = between(random, 1, 64);
    options.step_ms_target = between(random, 1, 100);
    options.ageing_ms = between(random, 1, 2000);
    options.reserve_output = random.below(2) == 0;
    if (random.below(2) == 0) options.tenant_weights = {{"tenant-1", 0.1 + 4 * random.unit()}};
    options.requests_max = random.below(4) == 0 ? 4 : 256;
    options.seed = 1;
    return options;
}

Job random_job(Random& random, SimModel const& model, std::uint32_t index) {
    Job job;
    if (index > 0 && random.below(4) == 0) {
        job.after = static_cast<std::uint32_t>(random.below(index));
        job.continues = true;
    } else if (random.below(3) != 0) {
        Segment const shared{1 + random.below(3), between(random, 8, 30)};
        job.prompt.push_back(shared);
        // Two of one beginning, and none of another, are public.
        if (shared.seed == 1) job.public_tokens = shared.tokens >= 20 ? 20 : 8;
        if (shared.seed == 2 && shared.tokens >= 12) job.public_tokens = 12;
    }
    job.prompt.push_back({random.below(3) == 0 ? 10 + random.below(5) : random.next(), between(random, 1, 25)});
    job.output_tokens = between(random, 1, 30);
    job.choices = random.below(4) == 0 ? between(random, 1, std::min(4U, model.sequences_max)) : 1;
    job.temperature = random.below(6) == 0 ? 2.5F : 0.0F;
    if (random.below(8) == 0) job.stop = {"1", "\xE2\x82\xAC", "a0b"};
    if (random.below(8) == 0) job.top_logprobs = 1;
    job.progress = random.below(4) == 0;
    job.tenant = random.below(4) == 0 ? between(random, 1, 3) : 0;
    if (random.below(10) == 0) job.salt = between(random, 1, 2);
    job.priority = static_cast<domain::Priority>(random.below(domain::kPriorityCount));
    job.cache_prompt = random.below(8) != 0;
    job.deterministic = random.below(5) == 0;
    if (random.below(6) == 0) {
        job.shifts = true;
        job.output_tokens = between(random, 30, 150);
        job.keep_tokens = between(random, 0, 24);
        if (random.below(2) == 0) job.discard_tokens = between(random, 1, 24);
    }
    if (random.below(20) == 0) job.deadlines.queue_ms = between(random, 1, 10'000);
    if (random.below(20) == 0) job.deadlines.prefill_ms = between(random, 1, 1000);
    if (random.below(20) == 0) job.deadlines.decode_ms = between(random, 1, 10'000);
    if (random.below(5) == 0) job.cancel_after_ms = 1000 * random.exponential(3);
    if (random.below(4) == 0) job.reads_tokens_per_s = 2 + 100 * random.unit();
    return job;
}

}  // namespace

CheckCase check_case(std::uint64_t seed) {
    Random random(seed);
    CheckCase made;
    made.setup.model = random_model(random);
    made.setup.engine = random_options(random);
    made.setup.draft = random_draft(seed, made.setup.model);
    if (seed % 3 == 0) made.setup.engine.draft_max = 3;
    made.workload.name = "check";
    std::uint32_t const count = between(random, 30, 100);
    double const rate_per_s = 2 + 40 * random.unit();
    double at_ms = 0;
    for (std::uint32_t i = 0; i < count; ++i) {
        auto job = random_job(random, made.setup.model, i);
        if (job.continues) {
            auto const& before = made.workload.jobs[job.after];
            // Only of greedy text is it known what there is to continue.
            job.continues = before.temperature == 0 && before.stop.empty();
            if (job.continues) job.public_tokens = before.public_tokens;
            job.at_ms = 1000 * random.exponential(2);
        } else {
            at_ms += random.below(8) == 0 ? 0 : 1000 * random.exponential(rate_per_s);
            job.at_ms = at_ms;
        }
        made.workload.jobs.push_back(std::move(job));
    }
    return made;
}

}  // namespace hearth::sim
