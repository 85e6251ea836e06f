#include "engine/testing/driver.h"

#include <utility>
#include <vector>

namespace hearth::engine::testing {

domain::GenerateRequest prompt_of(std::size_t size) {
    domain::GenerateRequest request;
    request.prompt = domain::TokenPrompt{std::vector<domain::Token>(size, 'x')};
    request.sampling.temperature = 0;
    return request;
}

std::string counted(int count) {
    std::string text;
    for (int i = 0; i < count; ++i) text += std::to_string(i) + " ";
    return text;
}

llama::ScriptedOptions counting(int count) {
    llama::ScriptedOptions options;
    for (int i = 0; i < count; ++i) options.pieces.push_back(std::to_string(i) + " ");
    return options;
}

Driver::Driver(llama::ScriptedOptions scripted, Options options)
    : backend(std::move(scripted)), preparer(backend, 1), core(backend, options, clock, preparer.end_tokens()) {}

Driver::~Driver() = default;

Transcript& Driver::of(RequestId id) { return transcripts[id]; }

void Driver::submit(RequestId id, domain::GenerateRequest request) {
    auto prepared = preparer.prepare(id, std::move(request), clock.now());
    ASSERT_TRUE(prepared.has_value()) << prepared.error().message;
    core.add(std::move(prepared).value());
}

void Driver::cancel(RequestId id) {
    core.cancel(id);
    collect();
}

void Driver::step() {
    core.step();
    collect();
}

void Driver::run() {
    for (int i = 0; core.has_work(); ++i) {
        ASSERT_LT(i, 100000) << "the engine does not get anywhere";
        step();
    }
}

void Driver::collect() {
    for (auto const& event : core.events()) transcripts[event.request].add(event.event);
    core.clear_events();
    core.check_integrity();
    ASSERT_EQ(core.stats().kv_used, backend.scripted().cells_used());
}

void Driver::expect_empty() {
    core.forget();
    core.check_integrity();
    EXPECT_EQ(core.stats().kv_used, 0U);
    EXPECT_EQ(core.stats().running, 0U);
    EXPECT_EQ(core.stats().waiting, 0U);
    EXPECT_EQ(backend.scripted().sequences_used(), 0U);
}

}  // namespace hearth::engine::testing
