// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// hclogger passes raft's log to slog, two steps quieter: raft calls the election
// of a lone node a warning, and what breaks reaches the operator as EventFailed,
// not as a line of the library.
type hclogger struct {
	hclog.Logger // answers what is not overridden
	log          *slog.Logger
	warn         slog.Level
}

func newHclogger(log *slog.Logger, alone bool) *hclogger {
	h := &hclogger{Logger: hclog.NewNullLogger(), log: log, warn: slog.LevelInfo}
	if alone {
		h.warn = slog.LevelDebug
	}
	return h
}

func (h *hclogger) level(l hclog.Level) slog.Level {
	switch l {
	case hclog.Error:
		return slog.LevelWarn
	case hclog.Warn:
		return h.warn
	case hclog.Info, hclog.Debug:
		return slog.LevelDebug
	default:
		return slog.LevelDebug - 4
	}
}

func (h *hclogger) Log(l hclog.Level, msg string, args ...any) {
	lv := h.level(l)
	if !h.log.Enabled(context.Background(), lv) {
		return
	}
	attrs := make([]any, 0, len(args)+2)
	attrs = append(attrs, slog.String("raft", msg))
	for i, a := range args {
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			a = fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...)
		}
		if i%2 == 0 {
			a = fmt.Sprint(a) // slog wants string keys
		}
		attrs = append(attrs, a)
	}
	h.log.Log(context.Background(), lv, "journal: raft", attrs...)
}

func (h *hclogger) Trace(msg string, args ...any) { h.Log(hclog.Trace, msg, args...) }
func (h *hclogger) Debug(msg string, args ...any) { h.Log(hclog.Debug, msg, args...) }
func (h *hclogger) Info(msg string, args ...any)  { h.Log(hclog.Info, msg, args...) }
func (h *hclogger) Warn(msg string, args ...any)  { h.Log(hclog.Warn, msg, args...) }
func (h *hclogger) Error(msg string, args ...any) { h.Log(hclog.Error, msg, args...) }

func (h *hclogger) enabled(l hclog.Level) bool {
	return h.log.Enabled(context.Background(), h.level(l))
}
func (h *hclogger) IsTrace() bool { return h.enabled(hclog.Trace) }
func (h *hclogger) IsDebug() bool { return h.enabled(hclog.Debug) }
func (h *hclogger) IsInfo() bool  { return h.enabled(hclog.Info) }
func (h *hclogger) IsWarn() bool  { return h.enabled(hclog.Warn) }
func (h *hclogger) IsError() bool { return h.enabled(hclog.Error) }

func (h *hclogger) With(args ...any) hclog.Logger {
	return &hclogger{Logger: h.Logger, log: h.log.With(args...), warn: h.warn}
}
func (h *hclogger) Named(string) hclog.Logger      { return h }
func (h *hclogger) ResetNamed(string) hclog.Logger { return h }
