// Session: one server under test and the requests of one run against it.
//
// It turns planned requests into bodies of the right dialect, keeps what was
// planned beside what came back, and asks the server what a run needs to know
// first. The modes in serve.cpp decide when to start what.
//
// Private to the module. Threads: one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "bench/load_client.h"
#include "bench/serve.h"
#include "bench/workload.h"

namespace hearth::bench {

class Session {
public:
    // Waits for the server if asked to, finds the model, reads the prompts file.
    [[nodiscard]] static Result<std::unique_ptr<Session>> create(ServeOptions const& options);

    // Sends `request`; returns the index of its result. `number` picks its line
    // of the prompts file, if there is one. REQUIRES: client().active() < limit
    std::size_t send(PlannedRequest const& request, std::size_t number);

    // Sends one request and waits for its end.
    [[nodiscard]] Result<RequestResult> send_and_wait(PlannedRequest const& request);

    // How many words make a prompt of about `tokens` tokens, chat template
    // included; found by asking for the length of a few.
    [[nodiscard]] Result<std::uint32_t> words_for_tokens(std::uint32_t tokens);
    // From the last words_for_tokens(); 0 before.
    [[nodiscard]] double words_per_token() const { return words_per_token_; }

    [[nodiscard]] LoadClient& client() { return *client_; }
    [[nodiscard]] std::string const& model() const { return model_; }

private:
    explicit Session(ServeOptions const& options) : options_(options) {}
    [[nodiscard]] Result<std::uint64_t> prompt_length(std::uint32_t words);

    ServeOptions const& options_;
    std::unique_ptr<LoadClient> client_;
    std::string model_;
    std::string path_;
    std::string body_head_;  // the body up to the prompt
    std::string body_tail_;
    std::vector<std::string> prompts_;
    std::uint64_t probes_ = 0;
    double words_per_token_ = 0;
};

}  // namespace hearth::bench
