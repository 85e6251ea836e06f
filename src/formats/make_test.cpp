// make() against makers that are shell scripts: what it does when one misbehaves.
// With the real one: tests/integration/test_quantize.py and test_convert.py.
#include "formats/make.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "testing/gguf_writer.h"
#include "testing/temporary_folder.h"

namespace hearth::formats {
namespace {

class Make : public ::testing::Test {
protected:
    void SetUp() override {
        std::filesystem::create_directory(folder_ / "out");
        std::filesystem::create_directory(folder_ / "source");
        std::ofstream(folder_ / "model.gguf") << models::testing::tiny_llama().build();
    }

    // A maker that gets the output as $3 where it quantises, and as descriptor 4 where it converts.
    Result<Made> make_with(std::string const& script, std::string const& source, Watch const& watch = {}) {
        auto const program = folder_ / "maker.sh";
        std::ofstream(program) << "#!/bin/sh\n" << script << "\n";
        ::chmod(program.c_str(), 0700);
        Order order;
        order.source = folder_ / source;
        order.output = folder_ / "out/made.gguf";
        order.form = source == "source" ? Form() : form_of(Profile::fast);
        return make(order, {.executable = program, .environment = {"PATH=/usr/bin:/bin"}}, watch);
    }
    [[nodiscard]] bool out_is_empty() const { return std::filesystem::is_empty(folder_ / "out"); }

    hearth::testing::TemporaryFolder const folder_;
};

TEST_F(Make, QuantisingWritesThePathAndConvertingTheDescriptor) {
    auto const model = folder_ / "model.gguf";
    auto const quantized =
        make_with("cat " + model + " >\"$4\"; echo plan llama Q4_1 3 100 0 >&3; echo done in a box >&3", "model.gguf");
    ASSERT_TRUE(quantized) << quantized.error().message;
    EXPECT_EQ(quantized->type, "Q4_1");
    EXPECT_EQ(quantized->isolation, "in a box");
    EXPECT_EQ(quantized->file_bytes, std::filesystem::file_size(model));
    std::filesystem::remove(folder_ / "out/made.gguf");
    auto const bytes = std::to_string(std::filesystem::file_size(model));
    auto const converted =
        make_with("echo plan llama F16 3 100 " + bytes + " >&3; cat " + model + " >&4; echo done >&3", "source");
    ASSERT_TRUE(converted) << converted.error().message;
    EXPECT_EQ(converted->output, folder_ / "out/made.gguf");
}

TEST_F(Make, AMakerThatFailsOrLiesLeavesNothing) {
    struct Case {
        char const* script;
        Code code;
    };
    for (auto const& [script, code] :
         {Case{"echo 'failed 6 no such thing' >&3; exit 1", Code::unsupported}, Case{"exit 0", Code::internal},
          Case{"echo plan llama Q4_1 3 100 0 >&3; kill -SEGV $$", Code::internal},
          Case{"echo done >&3", Code::internal}, Case{"echo hello >&3", Code::corrupt},
          Case{"echo plan llama Q4_1 3 100 0 >&3; echo plan llama Q4_1 3 100 0 >&3", Code::corrupt},
          Case{"head -c 100000 /dev/zero >&3", Code::corrupt},
          Case{"echo plan llama Q4_1 3 100 0 >&3; echo garbage >\"$4\"; echo done >&3", Code::unsupported}}) {
        auto const made = make_with(script, "model.gguf");
        ASSERT_FALSE(made) << script;
        EXPECT_EQ(made.error().code, code) << script << ": " << made.error().message;
        EXPECT_TRUE(out_is_empty()) << script;
    }
}

TEST_F(Make, NoRoomIsKnownBeforeTheWork) {
    auto const made = make_with("echo plan llama F16 3 100 4000000000000000000 >&3; exec sleep 1000", "source");
    ASSERT_FALSE(made);
    EXPECT_NE(made.error().message.find("no room for 4000000000000000000 bytes"), std::string::npos);
    EXPECT_TRUE(out_is_empty());
}

TEST_F(Make, AWatchThatSaysNoEndsTheMaker) {
    Progress last;
    auto const made = make_with("echo at 1 2 3 4 >&3; exec sleep 1000", "model.gguf", [&](Progress const& progress) {
        last = progress;
        return progress.tensors_done == 0;
    });
    ASSERT_FALSE(made);
    EXPECT_EQ(made.error().code, Code::cancelled);
    EXPECT_EQ(last.bytes_done, 3U);
    EXPECT_EQ(last.stage, Stage::quantizing);
    EXPECT_TRUE(out_is_empty());
}

TEST_F(Make, SaysWhatCannotBeMade) {
    EXPECT_EQ(make_with("exit 1", "nowhere").error().code, Code::not_found);
    Order order;
    order.source = folder_ / "model.gguf";
    EXPECT_EQ(make(order, {}, {}).error().code, Code::invalid_argument);
    order.form = form_of(Profile::fast);
    order.output = folder_ / "out/made.gguf";
    EXPECT_EQ(make(order, {.executable = folder_ / "no-program", .environment = {}}, {}).error().code, Code::io);
    EXPECT_TRUE(out_is_empty());
}

}  // namespace
}  // namespace hearth::formats
