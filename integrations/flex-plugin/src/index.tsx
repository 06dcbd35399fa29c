/** A plugin of Twilio Flex: shows an agent what a caller answered on the USSD support menu. */
import * as React from 'react';
import { fields } from './fields.ts';
import type { Flex, Host, Plugin, TaskProps } from './flex.ts';
import { RequestLine, RequestPanel } from './request.tsx';

/** Put in by the bundler. */
declare const VERSION: string;

const fromUssd = ({ task }: TaskProps) => fields(task?.attributes).length > 0;

class UssdSupportPlugin implements Plugin {
  name = 'UssdSupportPlugin';
  uniqueName = 'plugin-ussd-support';
  version = VERSION;

  init(flex: Flex) {
    flex.TaskInfoPanel.Content.add(<RequestPanel key="ussd-request" />, { sortOrder: -1, if: fromUssd });
    // 1: behind the title of the task, before the buttons that end it.
    flex.TaskCanvasHeader.Content.add(<RequestLine key="ussd-request-line" />, {
      sortOrder: 1,
      if: fromUssd,
    });
  }
}

const plugins = (window as Host).Twilio?.Flex?.Plugins;
if (plugins) plugins.init(UssdSupportPlugin);
else console.warn('UssdSupportPlugin: this page is no Flex that takes plugins');
