// Whether work that is done again and again goes faster on one thread or on all: both are tried, the better is kept,
// and the other is tried again now and then. A machine shared with others may stop a thread for milliseconds while the
// rest wait for it. Such a run counts, but as one of a window's: what is kept is judged by its mean over a time that is
// long beside it. And whatever a trial loses must first become small against the time since.
#pragma once

namespace throughtime {

class Pace {
 public:
  // Whether the next run should take all threads.
  bool together() const { return together_; }

  // The run that together() was asked for took so long.
  void ran(double ns) {
    const double other = ns_[!together_];
    since_ += ns;
    if (ns > other && other > 0) lost_ += ns - other;
    spent_ += ns;
    runs_++;
    if (ns > worst_) worst_ = ns;
    if (spent_ < (stage_ == Settling ? kSettle : stage_ == Trial ? kTrial : kWindow)) return;
    if (stage_ == Settling) return begin(next_);
    const double usual = runs_ > 1 ? (spent_ - worst_) / (runs_ - 1) : spent_;
    const bool hopeless = other > 0 && runs_ > 1 && usual > kHopeless * other;
    if (runs_ < kRuns && !hopeless) return;
    ns_[together_] = stage_ == Trial ? usual : spent_ / runs_;
    if (stage_ == Trial && other == 0) return turn(Trial);
    if (ns_[together_] > other) {
      // Together shows by itself when it is no longer better; that it is better again, only a trial.
      wait_ = (together_ ? kLeast : kSeldom) + kPatience * lost_;
      return turn(Kept);
    }
    if (stage_ == Trial) wait_ = (together_ ? kSeldom : kLeast) + kPatience * lost_;
    if (stage_ == Trial) since_ = lost_ = 0;
    since_ < wait_ ? begin(Kept) : turn(Trial);
  }

 private:
  enum Stage { Settling, Trial, Kept };
  static constexpr double kSettle = 1e6;   // ns that are not judged: threads just woken may share a core for a while
  static constexpr double kTrial = 2e6;    // ns of a trial, judged without its worst run
  static constexpr double kWindow = 20e6;  // ns over which the mean of what is kept is taken
  static constexpr int kRuns = 4;          // of either at least, unless it is hopeless:
  static constexpr double kHopeless = 4;   // so many times slower
  static constexpr double kPatience = 20;  // one part in so many may be lost
  static constexpr double kLeast = 20e6;   // ns between trials of all threads,
  static constexpr double kSeldom = 40e6;  // and of one

  void begin(Stage stage) {
    stage_ = stage;
    spent_ = worst_ = 0;
    runs_ = 0;
  }
  void turn(Stage next) {
    together_ = !together_;
    next_ = next;
    since_ = lost_ = 0;
    begin(Settling);
  }

  double ns_[2] = {0, 0};  // alone, together: of a run, when last judged; 0 if it has yet to be
  bool together_ = false;
  Stage stage_ = Settling, next_ = Trial;
  double spent_ = 0, worst_ = 0;  // of the stage, or the window
  int runs_ = 0;                  // likewise
  double since_ = 0, lost_ = 0;   // since the last turn or trial
  double wait_ = kLeast;          // until the next trial
};

}  // namespace throughtime
