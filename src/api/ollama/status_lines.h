// StatusLines: what a client that reads a stream is told while the model it asked for is
// made or loaded: objects without text (render_interim()), the first after
// Options::status_interval, then one in each such time.
//
// From the first of them on the answer has begun: what fails later is its last line.
//
// Threads: the loop's. Private to the dialect.
#pragma once

#include <cstdint>

#include "api/ollama/answers.h"
#include "api/routes.h"
#include "base/clock.h"
#include "http/server.h"
#include "library/library.h"
#include "net/task.h"
#include "serving/pool.h"

namespace hearth::api::ollama {

class StatusLines final : public library::Onlooker {
public:
    // To whom reads no stream nothing is told. Both references outlive it.
    enum class Reader : std::uint8_t { whole, stream };
    StatusLines(Services& services, http::Exchange& exchange, AnswerShape shape, Reader reader);

    // False once the client has left.
    net::Task<bool> see(jobs::Progress const& progress) override;
    net::Task<bool> see_loading(serving::ModelStatus const& model);

private:
    net::Task<bool> say(Interim interim);

    Services& services_;
    http::Exchange& exchange_;
    AnswerShape const shape_;
    Reader const reader_;
    Instant next_;  // when something may be said
};

}  // namespace hearth::api::ollama
